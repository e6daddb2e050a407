//! The table of services.

/// Name and group of each service. The services of one group share a process in the split shape, and the process has the group's name.
/// A service's name is also the prefix of its tables, its schema and its stream.
const TABLE: &[(&str, &str)] = &[
    ("accounts", "front"),
    ("stores", "front"),
    ("catalog", "front"),
    ("orders", "orders"),
    ("stock", "stock"),
    ("coupons", "stock"),
    ("wallet", "wallet"),
    ("payments", "orders"),
];

/// Names of all services.
pub const SERVICES: &[&str] = &names::<{ TABLE.len() }>();

const fn names<const N: usize>() -> [&'static str; N] {
    let mut names = [""; N];
    let mut index = 0;
    while index < N {
        names[index] = TABLE[index].0;
        index += 1;
    }
    names
}

/// The services of one process in the split shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitGroup {
    pub name: &'static str,
    pub services: Vec<&'static str>,
}

/// All groups, in the order of their first services.
pub fn split_groups() -> Vec<SplitGroup> {
    let mut groups: Vec<SplitGroup> = Vec::new();
    for &(service, name) in TABLE {
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.services.push(service),
            None => groups.push(SplitGroup { name, services: vec![service] }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_is_in_one_group() {
        let mut grouped: Vec<&str> = split_groups().into_iter().flat_map(|group| group.services).collect();
        let mut named = SERVICES.to_vec();
        grouped.sort_unstable();
        named.sort_unstable();
        assert_eq!(grouped, named);
        named.dedup();
        assert_eq!(named.len(), SERVICES.len(), "a name is used twice");
    }
}
