//! k-means on the CPU, and k-means level by level on residuals: the starting codebooks of the tokenizer.

use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::codebooks::{Codebooks, nearest, squared_distance};
use super::embeddings::Embeddings;
use super::sample::subset;
use crate::bounds::{MANY, Section};
use crate::error::{Error, Result};
use crate::tensor::{Rng, stream};

/// Points handled between two partial sums. Fixed, so that the order of the sums never depends on threads.
const PIECE: usize = 1024;

/// Settings of [`kmeans`] and [`residual_kmeans`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KmeansConfig {
    /// Clusters, N of a level (1 to 65,536).
    pub codes: usize,
    /// Lloyd iterations at most (MiniOneRec uses 100).
    pub iterations: usize,
    /// Stops when an iteration lowers the sum of squared distances by less than this share of it.
    pub tolerance: f64,
    /// The centres are found on a random part of so many points per code, the others only assigned; 0 takes all.
    /// 256 is also the limit of faiss.
    pub points_per_code: usize,
    /// Seed of the k-means++ start.
    pub seed: u64,
}

impl Default for KmeansConfig {
    fn default() -> Self {
        KmeansConfig { codes: 256, iterations: 100, tolerance: 1e-4, points_per_code: 256, seed: 0 }
    }
}

impl KmeansConfig {
    /// Errors: `Config` naming the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let at = Section::new("sid.kmeans");
        at.whole("codes", self.codes, 1..=1 << 16)?;
        at.whole("iterations", self.iterations, 0..=MANY)?;
        at.number("tolerance", self.tolerance, 0.0..1.0)
    }
}

/// The clusters of a set of points.
#[derive(Debug, Clone)]
pub struct Kmeans {
    /// Centres, (codes, dims) row-major. Where there are fewer distinct points than codes, some repeat a point.
    pub centres: Vec<f32>,
    /// Cluster of each point.
    pub assignment: Vec<u16>,
    /// Mean squared distance of a point to its centre.
    pub distortion: f64,
    /// Lloyd iterations done.
    pub iterations: usize,
    /// Empty clusters that were given a far point, over all iterations.
    pub repaired: usize,
}

/// k-means: k-means++ start, Lloyd iterations, an empty cluster taking the point farthest from its own centre.
///
/// Cost: N · codes · dims per iteration. Centres are summed in f64.
///
/// Shapes: points (N, dims).
/// Errors: `Config` if the settings are out of range; `Shape` if there is no point.
/// Source: Arthur and Vassilvitskii 2007 for the start.
pub fn kmeans(points: &Embeddings, config: &KmeansConfig) -> Result<Kmeans> {
    kmeans_of(points.values(), points.dims(), config, 0)
}

/// k-means on the points, then on what each level leaves over.
#[derive(Debug, Clone)]
pub struct ResidualKmeans {
    /// One codebook per level.
    pub codebooks: Codebooks,
    /// Codes of every point, (N, levels) row-major.
    pub codes: Vec<u16>,
    /// Mean squared length of what is left over after each level.
    pub distortion: Vec<f64>,
}

/// Level l clusters r_l = x − Σ_{k<l} q_k.
///
/// Shapes: points (N, dims); codes (N, levels).
/// Errors: as [`kmeans`].
pub fn residual_kmeans(points: &Embeddings, levels: usize, config: &KmeansConfig) -> Result<ResidualKmeans> {
    let dims = points.dims();
    let mut residual = points.values().to_vec();
    let mut codes = vec![0u16; points.rows() * levels];
    let (mut books, mut distortion) = (Vec::new(), Vec::new());
    for level in 0..levels {
        let found = kmeans_of(&residual, dims, config, level as u64)?;
        residual.par_chunks_mut(dims).zip(&found.assignment).for_each(|(row, &code)| {
            let centre = &found.centres[usize::from(code) * dims..][..dims];
            row.iter_mut().zip(centre).for_each(|(r, c)| *r -= c);
        });
        codes.chunks_exact_mut(levels).zip(&found.assignment).for_each(|(row, &code)| row[level] = code);
        books.push(found.centres);
        distortion.push(found.distortion);
    }
    Ok(ResidualKmeans { codebooks: Codebooks::new(dims, config.codes, books)?, codes, distortion })
}

fn kmeans_of(points: &[f32], dims: usize, config: &KmeansConfig, level: u64) -> Result<Kmeans> {
    config.validate()?;
    if points.is_empty() {
        return Err(Error::Shape { op: "kmeans", problem: "no point to cluster".into() });
    }
    let n = points.len() / dims;
    let limit = config.points_per_code.saturating_mul(config.codes);
    let sample;
    let learnt_from = if limit == 0 || n <= limit {
        points
    } else {
        let chosen = subset(&mut stream(config.seed, "sid.kmeans.sample", level, 0), n, limit);
        sample = chosen.iter().flat_map(|&i| &points[i * dims..(i + 1) * dims]).copied().collect::<Vec<f32>>();
        &sample
    };
    let mut centres =
        plus_plus(learnt_from, dims, config.codes, &mut stream(config.seed, "sid.kmeans.start", level, 0));
    let (mut iterations, mut repaired) = (0, 0);
    let mut last = f64::INFINITY;
    while iterations < config.iterations {
        let (assignment, distances) = assign(learnt_from, dims, &centres);
        let total = sum(&distances);
        let empty = update(learnt_from, dims, &assignment, &distances, &mut centres);
        iterations += 1;
        repaired += empty;
        if empty == 0 && last - total <= config.tolerance * total {
            break;
        }
        last = total;
    }
    let (assignment, distances) = assign(points, dims, &centres);
    Ok(Kmeans { centres, assignment, distortion: sum(&distances) / n as f64, iterations, repaired })
}

/// First centre uniform, each further one drawn with probability proportional to the squared distance to the nearest so far.
fn plus_plus(points: &[f32], dims: usize, codes: usize, rng: &mut Rng) -> Vec<f32> {
    let n = points.len() / dims;
    let row = |i: usize| &points[i * dims..(i + 1) * dims];
    let any = |rng: &mut Rng| rng.random_range(0..n as u64) as usize;
    let mut centres = Vec::with_capacity(codes * dims);
    centres.extend_from_slice(row(any(rng)));
    let mut to_nearest = vec![f32::INFINITY; n];
    for _ in 1..codes {
        let newest = &centres[centres.len() - dims..];
        let pieces: Vec<f64> = to_nearest
            .par_chunks_mut(PIECE)
            .zip(points.par_chunks(PIECE * dims))
            .map(|(near, rows)| {
                near.iter_mut()
                    .zip(rows.chunks_exact(dims))
                    .map(|(near, row)| {
                        *near = near.min(squared_distance(row, newest));
                        f64::from(*near)
                    })
                    .sum()
            })
            .collect();
        let total: f64 = pieces.iter().sum();
        let chosen = if total > 0.0 { weighted(&to_nearest, &pieces, rng.random::<f64>() * total) } else { any(rng) };
        centres.extend_from_slice(row(chosen));
    }
    centres
}

/// The first index at which the running sum of `weights` passes `target`; `pieces` are the sums of runs of PIECE weights.
fn weighted(weights: &[f32], pieces: &[f64], mut target: f64) -> usize {
    let mut piece = 0;
    while piece + 1 < pieces.len() && target >= pieces[piece] {
        target -= pieces[piece];
        piece += 1;
    }
    let mut last_positive = 0;
    for (i, &w) in weights.iter().enumerate().skip(piece * PIECE) {
        if w > 0.0 {
            if target < f64::from(w) {
                return i;
            }
            last_positive = i;
        }
        target -= f64::from(w);
    }
    last_positive
}

/// Nearest centre of every point, with its squared distance.
fn assign(points: &[f32], dims: usize, centres: &[f32]) -> (Vec<u16>, Vec<f32>) {
    let n = points.len() / dims;
    let (mut assignment, mut distances) = (vec![0u16; n], vec![0f32; n]);
    assignment
        .par_chunks_mut(PIECE)
        .zip(distances.par_chunks_mut(PIECE))
        .zip(points.par_chunks(PIECE * dims))
        .for_each(|((codes, distances), rows)| {
            for ((code, distance), row) in codes.iter_mut().zip(distances).zip(rows.chunks_exact(dims)) {
                (*code, *distance) = nearest(row, centres);
            }
        });
    (assignment, distances)
}

fn sum(distances: &[f32]) -> f64 {
    distances.iter().map(|&d| f64::from(d)).sum()
}

/// Moves every centre to the mean of its points; returns how many empty clusters were given a far point.
fn update(points: &[f32], dims: usize, assignment: &[u16], distances: &[f32], centres: &mut [f32]) -> usize {
    let codes = centres.len() / dims;
    // Points listed by cluster, in order, so that each mean is one sum in a fixed order.
    let mut ends = vec![0usize; codes + 1];
    assignment.iter().for_each(|&c| ends[usize::from(c) + 1] += 1);
    (0..codes).for_each(|c| ends[c + 1] += ends[c]);
    let starts = ends.clone();
    let mut members = vec![0u32; assignment.len()];
    let mut next = ends;
    for (i, &c) in assignment.iter().enumerate() {
        members[next[usize::from(c)]] = i as u32;
        next[usize::from(c)] += 1;
    }
    let of = |code: usize| &members[starts[code]..starts[code + 1]];
    let row = |i: u32| &points[i as usize * dims..][..dims];
    centres.par_chunks_mut(dims).enumerate().filter(|(code, _)| !of(*code).is_empty()).for_each(|(code, centre)| {
        let mut mean = vec![0f64; dims];
        for &i in of(code) {
            mean.iter_mut().zip(row(i)).for_each(|(m, &v)| *m += f64::from(v));
        }
        let count = of(code).len() as f64;
        centre.iter_mut().zip(mean).for_each(|(c, m)| *c = (m / count) as f32);
    });

    let empty: Vec<usize> = (0..codes).filter(|&code| of(code).is_empty()).collect();
    if empty.is_empty() {
        return 0;
    }
    let mut far: Vec<u32> = (0..distances.len() as u32).filter(|&i| distances[i as usize] > 0.0).collect();
    far.par_sort_unstable_by(|&i, &j| distances[j as usize].total_cmp(&distances[i as usize]).then(i.cmp(&j)));
    let repaired = empty.len().min(far.len());
    for (&code, &i) in empty.iter().zip(&far) {
        centres[code * dims..][..dims].copy_from_slice(row(i));
    }
    repaired
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `per` points around each of the corners (0, 0), (10, 0), (0, 10), (10, 10).
    fn corners(per: usize) -> Embeddings {
        let mut rng = stream(3, "test", 0, 0);
        let mut values = Vec::new();
        for i in 0..4 * per {
            let (x, y) = ([0.0, 10.0][i % 2], [0.0, 10.0][i / 2 % 2]);
            values.extend([x + rng.random::<f32>() - 0.5, y + rng.random::<f32>() - 0.5]);
        }
        Embeddings::new(2, values).unwrap()
    }

    fn config(codes: usize) -> KmeansConfig {
        KmeansConfig { codes, ..KmeansConfig::default() }
    }

    #[test]
    fn finds_separated_clusters() {
        let points = corners(50);
        let found = kmeans(&points, &config(4)).unwrap();
        assert!(found.distortion < 0.2, "{}", found.distortion);
        for i in 4..200 {
            assert_eq!(found.assignment[i], found.assignment[i % 4]);
        }
    }

    #[test]
    fn empty_clusters_take_far_points() {
        let points = [0.0, 1.0, 10.0];
        let mut centres = [0.5, 500.0, 600.0];
        let (assignment, distances) = assign(&points, 1, &centres);
        assert_eq!(update(&points, 1, &assignment, &distances, &mut centres), 2);
        // The farthest point, then the first of the two that tie.
        assert_eq!(centres[1..], [10.0, 0.0]);
    }

    #[test]
    fn fewer_points_than_codes_is_exact() {
        let points = Embeddings::new(1, vec![1.0, 5.0, 5.0, 9.0]).unwrap();
        let found = kmeans(&points, &config(8)).unwrap();
        assert_eq!((found.distortion, found.centres.len()), (0.0, 8));
        assert_eq!(found.assignment[1], found.assignment[2]);
    }

    #[test]
    fn residual_levels_shrink_what_is_left_and_agree_with_the_codebooks() {
        let points = corners(50);
        let found = residual_kmeans(&points, 3, &config(4)).unwrap();
        assert!(found.distortion.windows(2).all(|d| d[1] < 0.6 * d[0]), "{:?}", found.distortion);
        let mut codes = [0; 3];
        for i in 0..points.rows() {
            found.codebooks.quantise(points.row(i), &mut codes);
            assert_eq!(codes, found.codes[i * 3..i * 3 + 3]);
        }
    }

    #[test]
    fn neither_threads_nor_repetition_change_a_bit_but_the_seed_does() {
        let points = corners(900);
        let run = |threads, seed| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let config =
                KmeansConfig { codes: 16, iterations: 5, points_per_code: 100, seed, ..KmeansConfig::default() };
            pool.install(|| residual_kmeans(&points, 2, &config).unwrap())
        };
        let (a, b, c) = (run(1, 0), run(3, 0), run(1, 1));
        assert_eq!((&a.codebooks, &a.codes, &a.distortion), (&b.codebooks, &b.codes, &b.distortion));
        assert_ne!(a.codebooks, c.codebooks);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let message = kmeans(&corners(1), &config(70_000)).unwrap_err().to_string();
        assert_eq!(message, "config: sid.kmeans.codes: 70000: expected 1 to 65536");
    }
}
