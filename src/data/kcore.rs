//! The k-core: the largest part of the data in which every user and every item has at least k interactions.

use crate::data::User;

/// Who stays in the k-core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KCore {
    /// Per user: stays.
    pub users: Vec<bool>,
    /// Per item: stays.
    pub items: Vec<bool>,
}

/// Removes users and items with fewer than `k` interactions until none is left to remove; k = 0 keeps everything.
///
/// A repeated purchase counts each time. Every interaction is looked at twice at most: time and memory are linear.
/// The result does not depend on the order of removal. Every item index must be below `items`.
pub fn k_core(users: &[User], items: usize, k: u32) -> KCore {
    let mut core = KCore { users: vec![true; users.len()], items: vec![true; items] };
    if k == 0 {
        return core;
    }
    let k = k as usize;
    let buyers = Buyers::of(users, items);
    let mut user_degree: Vec<usize> = users.iter().map(|user| user.items.len()).collect();
    let mut item_degree: Vec<usize> = (0..items).map(|item| buyers.of_item(item).len()).collect();

    // A node is put on its stack at the moment it falls below k, so once at most.
    let mut gone_users = below(&user_degree, k, &mut core.users);
    let mut gone_items = below(&item_degree, k, &mut core.items);
    loop {
        if let Some(user) = gone_users.pop() {
            for &item in &users[user].items {
                lower(item as usize, k, &mut item_degree, &mut core.items, &mut gone_items);
            }
        } else if let Some(item) = gone_items.pop() {
            for &user in buyers.of_item(item) {
                lower(user as usize, k, &mut user_degree, &mut core.users, &mut gone_users);
            }
        } else {
            return core;
        }
    }
}

fn below(degree: &[usize], k: usize, stays: &mut [bool]) -> Vec<usize> {
    let gone: Vec<usize> = (0..degree.len()).filter(|&node| degree[node] < k).collect();
    for &node in &gone {
        stays[node] = false;
    }
    gone
}

fn lower(node: usize, k: usize, degree: &mut [usize], stays: &mut [bool], gone: &mut Vec<usize>) {
    if stays[node] {
        degree[node] -= 1;
        if degree[node] < k {
            stays[node] = false;
            gone.push(node);
        }
    }
}

/// The interactions seen from the items: users of item i at `starts[i]..starts[i + 1]`.
struct Buyers {
    starts: Vec<usize>,
    users: Vec<u32>,
}

impl Buyers {
    fn of(users: &[User], items: usize) -> Buyers {
        let mut starts = vec![0; items + 1];
        for item in users.iter().flat_map(|user| &user.items) {
            starts[*item as usize + 1] += 1;
        }
        for item in 0..items {
            starts[item + 1] += starts[item];
        }
        let mut next = starts.clone();
        let mut buyers = vec![0; starts[items]];
        for (index, user) in users.iter().enumerate() {
            for &item in &user.items {
                buyers[next[item as usize]] = index as u32;
                next[item as usize] += 1;
            }
        }
        Buyers { starts, users: buyers }
    }

    fn of_item(&self, item: usize) -> &[u32] {
        &self.users[self.starts[item]..self.starts[item + 1]]
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::tensor::stream;

    fn users(lists: &[&[u32]]) -> Vec<User> {
        lists.iter().enumerate().map(|(u, items)| User { key: u.to_string(), items: items.to_vec() }).collect()
    }

    /// Sweeps until nothing changes: the definition, in quadratic time.
    fn by_sweeps(users: &[User], items: usize, k: u32) -> KCore {
        let mut core = KCore { users: vec![true; users.len()], items: vec![true; items] };
        loop {
            let before = core.clone();
            for (u, user) in users.iter().enumerate() {
                let degree = user.items.iter().filter(|&&i| core.items[i as usize]).count();
                core.users[u] &= degree >= k as usize;
            }
            for item in 0..items {
                let degree: usize = (0..users.len())
                    .filter(|&u| core.users[u])
                    .map(|u| users[u].items.iter().filter(|&&i| i as usize == item).count())
                    .sum();
                core.items[item] &= degree >= k as usize;
            }
            if core == before {
                return core;
            }
        }
    }

    #[test]
    fn removal_runs_down_a_chain() {
        // Items 0 and 1 form a 2-core with users 0 and 1; the rest hangs on by single edges and falls one by one.
        let users = users(&[&[0, 1], &[0, 1, 2], &[2, 3], &[3, 4]]);
        let core = k_core(&users, 6, 2);
        assert_eq!(core.users, [true, true, false, false]);
        assert_eq!(core.items, [true, true, false, false, false, false]);
        assert_eq!(k_core(&users, 6, 0).items, [true; 6]);
        assert_eq!(k_core(&users, 6, 1).items, [true, true, true, true, true, false]);
        assert_eq!(k_core(&users, 6, 3).users, [false; 4]);
    }

    #[test]
    fn agrees_with_sweeping_until_stable() {
        let mut rng = stream(7, "test", 0, 0);
        let mut partial = 0;
        for _ in 0..40 {
            let lists: Vec<Vec<u32>> = (0..30)
                .map(|_| {
                    let length = rng.random_range(1..7u32);
                    (0..length).map(|_| rng.random_range(0..8u32) * rng.random_range(1..4u32)).collect()
                })
                .collect();
            let users = users(&lists.iter().map(Vec::as_slice).collect::<Vec<_>>());
            for k in 1..6 {
                let core = k_core(&users, 24, k);
                assert_eq!(core, by_sweeps(&users, 24, k));
                partial += usize::from(core.users.contains(&true) && core.users.contains(&false));
            }
        }
        assert!(partial > 50, "the random graphs must have a core to find, only {partial} did");
    }
}
