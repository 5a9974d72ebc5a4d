//! A small catalogue that several readers are about, and the files in which the `data` stage keeps it.

use gr2::data::{Catalogue, Dataset, ImportCounts, Item, User};
use gr2::rerank::ItemSids;
use gr2::sid::SemanticIds;

use crate::{SLOW, Scratch, Target, Verdict, join, parts};

/// Items of the catalogue.
pub const ITEMS: u32 = 5;

/// Five items and three users.
pub fn dataset() -> Dataset {
    let item = |key: u32| Item {
        key: format!("B{key:02}"),
        title: format!("Item {key}"),
        description: "Red & small.".into(),
        brand: "Acme".into(),
        categories: vec!["Office".into(), "Ink".into()],
        price: Some(1.5),
    };
    let user = |key: &str, items: &[u32]| User { key: key.into(), items: items.to_vec() };
    let users = vec![user("ann", &[0, 1, 2, 3]), user("bob", &[4, 3, 1]), user("7", &[2, 0, 4, 1, 3])];
    let counts = ImportCounts { items: ITEMS.into(), users: 3, interactions: 12, ..ImportCounts::default() };
    Dataset { name: "shop".into(), catalogue: Catalogue { items: (0..ITEMS).map(item).collect() }, users, counts }
}

/// Their semantic ids, of two levels of four codes; the last two items share one.
pub fn sids() -> SemanticIds {
    SemanticIds::new(2, 4, vec![0, 0, 0, 1, 1, 2, 3, 3, 3, 3]).expect("ids of this shape")
}

/// The same, readable both ways.
pub fn item_sids() -> ItemSids {
    ItemSids::new(sids()).expect("ids of this shape")
}

/// `items.jsonl`, `users.jsonl`, `counts.json`.
pub const DATASET: Target = Target {
    name: "dataset_files",
    seeds: || {
        let folder = Scratch::new();
        dataset().write(folder.path()).expect("writes");
        let read = |name: &str| std::fs::read(folder.path().join(name)).expect("was written");
        vec![join(&[&read("counts.json"), &read("items.jsonl"), &read("users.jsonl")])]
    },
    slow: SLOW,
    words: &["key", "title", "description", "brand", "categories", "price", "items", "users", "counts", "name"],
    reader: || {
        let folder = Scratch::new();
        Box::new(move |input| {
            let [counts, items, users] = parts(input);
            folder.put("counts.json", counts);
            folder.put("items.jsonl", items);
            folder.put("users.jsonl", users);
            let read = Dataset::read(folder.path());
            if let Ok(dataset) = &read {
                check(dataset);
            }
            Verdict::of(read, |dataset| dataset.users.len())
        })
    },
};

/// What every stage after `data` relies on.
pub fn check(dataset: &Dataset) {
    let items = dataset.catalogue.len();
    assert!(items > 0 && !dataset.users.is_empty(), "nothing was read, and no error said so");
    for user in &dataset.users {
        assert!(!user.items.is_empty(), "user {:?} has no items", user.key);
        assert!(
            user.items.iter().all(|&item| (item as usize) < items),
            "user {:?}: an item that is not there",
            user.key
        );
    }
    let split = dataset.split();
    (0..dataset.users.len() as u32).for_each(|user| {
        split.train(user);
    });
    dataset.catalogue.items.iter().for_each(|item| {
        item.text();
    });
    let _ = (split.protocol().to_string(), dataset.counts.to_string());
}
