//! The rules of stock, without IO: limits of quantities, holds of orders, and answers to repeated steps.

mod item;
mod loaded;
mod reservation;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub use item::MovementKind;
pub use item::{MAX_ON_HAND, Movement, StockItem};
pub use loaded::{CommitOutcome, LoadedStock, NotLoaded};
pub use reservation::{LineState, Reservation, ReservationLine, ReservationState};
