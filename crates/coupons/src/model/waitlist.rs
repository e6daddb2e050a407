//! Arithmetic of the waitlist. Tickets are 1, 2, 3 … per coupon, and the first waiting ticket is served next.
//!
//! Served tickets leave from the front, which only moves the head. Other tickets leave anywhere, and a Fenwick tree counts them. So
//! reading a position, or recording a departure, touches a number of rows logarithmic in the length of the queue.

use contracts::{MemberId, Timestamp};

pub type Ticket = i64;

/// Most tickets in the tree. Fixed, so that joining does not write to the tree. It has rows only for departures.
const CAPACITY: Ticket = 1 << 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketState {
    Waiting,
    /// Got a coupon.
    Admitted,
    /// Left the waitlist.
    Left,
    /// The campaign ended first.
    Closed,
}

impl TicketState {
    pub fn as_str(self) -> &'static str {
        match self {
            TicketState::Waiting => "WAITING",
            TicketState::Admitted => "ADMITTED",
            TicketState::Left => "LEFT",
            TicketState::Closed => "CLOSED",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "WAITING" => Some(TicketState::Waiting),
            "ADMITTED" => Some(TicketState::Admitted),
            "LEFT" => Some(TicketState::Left),
            "CLOSED" => Some(TicketState::Closed),
            _ => None,
        }
    }
}

/// A member's entry in a waitlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitlistEntry {
    pub ticket: Ticket,
    pub member_id: MemberId,
    pub state: TicketState,
    pub at: Timestamp,
}

/// The nodes to increment when `ticket` leaves out of turn.
pub fn nodes_counting(ticket: Ticket) -> impl Iterator<Item = i64> {
    std::iter::successors(Some(ticket), |node| Some(node + lowest_bit(*node))).take_while(|node| *node <= CAPACITY)
}

/// The nodes whose sum is the number of departures with a ticket up to this one.
pub fn nodes_up_to(ticket: Ticket) -> impl Iterator<Item = i64> {
    std::iter::successors(Some(ticket), |node| Some(node - lowest_bit(*node))).take_while(|node| *node > 0)
}

/// Position of a waiting ticket; 1 is next. `left_before` and `left_before_head` count the departures out of turn below this ticket and
/// below the head.
///
/// No ticket below the head can leave any more. So a head that was read just before the counts still gives a position that was true in
/// between.
pub fn position(ticket: Ticket, head: Ticket, left_before: i64, left_before_head: i64) -> i64 {
    ticket - head + 1 - (left_before - left_before_head)
}

fn lowest_bit(node: i64) -> i64 {
    node & -node
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[derive(Default)]
    struct Tree(HashMap<i64, i64>);

    impl Tree {
        fn leave(&mut self, ticket: Ticket) {
            for node in nodes_counting(ticket) {
                *self.0.entry(node).or_default() += 1;
            }
        }
        fn left_up_to(&self, ticket: Ticket) -> i64 {
            nodes_up_to(ticket).map(|node| self.0.get(&node).copied().unwrap_or(0)).sum()
        }
    }

    #[test]
    fn departures_and_positions_touch_few_nodes() {
        for ticket in [1, 2, 1_000, 1_000_000, CAPACITY - 1, CAPACITY] {
            assert!(nodes_counting(ticket).count() <= 33, "{ticket}");
            assert!(nodes_up_to(ticket).count() <= 32, "{ticket}");
        }
        assert_eq!(nodes_up_to(0).count(), 0);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Join,
        /// The waiting member at this index, modulo the length, leaves.
        Leave(usize),
        Serve,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![4 => Just(Step::Join), 2 => any::<usize>().prop_map(Step::Leave), 1 => Just(Step::Serve)]
    }

    // C9: the position equals the naive count after any steps
    proptest! {
        #[test]
        fn positions_equal_the_naive_count(steps in prop::collection::vec(step(), 1..300)) {
            let (mut tree, mut queue) = (Tree::default(), Vec::<Ticket>::new());
            let (mut next, mut head) = (1, 1);
            for step in steps {
                match step {
                    Step::Join => {
                        queue.push(next);
                        next += 1;
                    }
                    Step::Leave(_) | Step::Serve if queue.is_empty() => {}
                    Step::Leave(index) => tree.leave(queue.remove(index % queue.len())),
                    Step::Serve => head = queue.remove(0) + 1,
                }
                for (index, &ticket) in queue.iter().enumerate() {
                    let found = position(ticket, head, tree.left_up_to(ticket - 1), tree.left_up_to(head - 1));
                    prop_assert_eq!(found, i64::try_from(index).unwrap() + 1);
                }
            }
        }
    }
}
