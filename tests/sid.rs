//! Semantic ids of the shop's texts: what the autoencoder learns, codes in range, an identifier for every item, the same
//! ones for the same seed.

mod support;

use gr2::data::{Shop, ShopConfig};
use gr2::sid::{
    Embeddings, ItemText, LastLevel, Quantised, RqVaeConfig, RqVaeMetrics, SemanticIds, SvdConfig, TfidfConfig, Trie,
    assign_last_level, embed_texts, train_rqvae, uniqueness,
};
use gr2_kernels::Device;
use support::{assert_close, gpu};

const LEVELS: usize = 3;
const CODES: usize = 8;

/// Embeddings of the texts of a shop of 120 items, with each item's category.
fn shop() -> (Embeddings, Vec<String>) {
    let config = ShopConfig { users: 50, items: 120, categories: 6, brands: 4, ..ShopConfig::default() };
    let items = Shop::build(&config).expect("shop").dataset().catalogue.items;
    let categories: Vec<String> = items.iter().map(|item| item.categories.join(", ")).collect();
    let text = |i: usize| ItemText {
        title: &items[i].title,
        brand: &items[i].brand,
        categories: &categories[i],
        description: &items[i].description,
    };
    let svd = SvdConfig { dims: 24, ..SvdConfig::default() };
    let (embeddings, report) = embed_texts(items.len(), text, &TfidfConfig::default(), &svd).expect("embeds");
    assert_eq!((report.items, report.without_text), (120, 0));
    (embeddings, categories)
}

fn train(items: &Embeddings, device: &Device, seed: u64) -> (Quantised, Vec<RqVaeMetrics>) {
    let config =
        RqVaeConfig { hidden: vec![32], latent: 12, epochs: 40, batch: 30, lr: 3e-3, ..RqVaeConfig::default() };
    let mut log = vec![];
    let keep = |metrics: &RqVaeMetrics| {
        log.push(*metrics);
        Ok(())
    };
    let quantised = train_rqvae(items, (LEVELS, CODES), &config, device, seed, keep).expect("trains");
    (quantised, log)
}

fn unique(quantised: &Quantised, how: LastLevel) -> SemanticIds {
    let mut ids = SemanticIds::new(LEVELS, CODES, quantised.codes.clone()).expect("codes in range");
    let (books, latents) = (&quantised.codebooks, &quantised.latents);
    let distances = |item: usize, prefix: &[u16], out: &mut [f32]| books.distances(latents.row(item), prefix, out);
    assign_last_level(&mut ids, how, &distances).expect("there is room");
    ids
}

#[test]
fn the_autoencoder_learns_the_texts_and_codes_are_its_nearest() {
    let (items, categories) = shop();
    let (quantised, log) = train(&items, &Device::Cpu, 3);
    let (first, last) = (log[0], log[log.len() - 1]);
    assert_eq!((log.len(), last.epoch), (40, 40));
    // coordinates have unit mean square, so that 1 is what a decoder that knows nothing reaches
    assert!(last.reconstruction < 0.5 && last.reconstruction < 0.5 * first.reconstruction, "{first:?} to {last:?}");
    assert!(log.iter().all(|m| m.reconstruction.is_finite() && m.commitment.is_finite()));

    assert_eq!(quantised.codes.len(), items.rows() * LEVELS);
    assert!(quantised.codes.iter().all(|&code| usize::from(code) < CODES));
    for (item, codes) in quantised.codes.chunks_exact(LEVELS).enumerate() {
        // nearest code by a search of its own, level after level
        let mut residual = quantised.latents.row(item).to_vec();
        for (level, &code) in codes.iter().enumerate() {
            let distance = |code: u16| -> f64 {
                let word = quantised.codebooks.codeword(level, code);
                residual.iter().zip(word).map(|(r, w)| f64::from(r - w).powi(2)).sum()
            };
            let nearest = (0..CODES as u16).map(distance).fold(f64::INFINITY, f64::min);
            assert!(distance(code) <= nearest * (1.0 + 1e-5), "item {item}, level {level}");
            let word = quantised.codebooks.codeword(level, code).to_vec();
            residual.iter_mut().zip(word).for_each(|(r, w)| *r -= w);
        }
    }

    // shared first codes mean shared content: more pairs of a category share one than of all pairs
    let (mut shared, mut pairs) = ([0.0; 2], [0.0; 2]);
    for i in 0..items.rows() {
        for j in 0..i {
            let same = usize::from(categories[i] == categories[j]);
            pairs[same] += 1.0;
            shared[same] += f64::from(quantised.codes[i * LEVELS] == quantised.codes[j * LEVELS]);
        }
    }
    let (alike, other) = (shared[1] / pairs[1], shared[0] / pairs[0]);
    assert!(alike > 2.0 * other, "same category: {alike:.3} share the first code, other: {other:.3}");
}

#[test]
fn every_item_gets_an_identifier_of_its_own_that_leads_back_to_it() {
    let (items, _) = shop();
    let (quantised, _) = train(&items, &Device::Cpu, 3);
    let before = uniqueness(&SemanticIds::new(LEVELS, CODES, quantised.codes.clone()).expect("codes"));
    assert!(before.unique_items < 1.0, "nothing collided: the last level has nothing to do");
    for how in [LastLevel::Random { seed: 3 }, LastLevel::Nearest] {
        let ids = unique(&quantised, how);
        let report = uniqueness(&ids);
        assert_eq!(
            (report.items, report.unique_sids, report.unique_items, report.largest_collision),
            (120, 1.0, 1.0, 1)
        );
        let trie = Trie::new(&ids, |_| false).expect("items");
        for item in 0..ids.items() {
            assert_eq!(trie.owner(ids.get(item)), Some(item as u32), "{how:?}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_codes_and_another_seed_others() {
    let (items, _) = shop();
    assert_eq!(items, shop().0);
    let ids = |seed| unique(&train(&items, &Device::Cpu, seed).0, LastLevel::Random { seed });
    assert_eq!(ids(5), ids(5));
    assert_ne!(ids(5), ids(6));
}

#[test]
fn a_gpu_learns_as_the_cpu_does() {
    let Some(device) = gpu("sid") else { return };
    let (items, _) = shop();
    let curve = |device| train(&items, device, 3).1.iter().take(5).map(|m| m.reconstruction).collect::<Vec<f64>>();
    // twenty updates; a code that flips between two equally near ones moves an item, not the mean
    assert_close("reconstruction over five epochs", &curve(&device), &curve(&Device::Cpu), 1e-3);
}

#[test]
fn more_items_than_identifiers_are_refused() {
    let mut ids = SemanticIds::new(1, 2, vec![0, 1, 1]).expect("codes");
    let error = assign_last_level(&mut ids, LastLevel::Nearest, &|_, _, out: &mut [f32]| out.fill(0.0)).unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("config: sid.codes_per_level: 2 with 1 levels gives 2 identifiers for 3 items"),
        "{message}"
    );
    assert!(message.contains("hint: raise sid.codes_per_level or sid.levels"), "{message}");
}
