//! What the numbers of the page mean.

/// Terms with their meaning, in the order in which a reader meets them.
const TERMS: [(&str, &str); 11] = [
    (
        "Recall@k, NDCG@k",
        "Every test user has one item to be found, the target. Recall@k is the share of users whose target is among the first k; \
         NDCG@k gives 1 / log₂(rank + 1) if it is, else 0. Both are means over users.",
    ),
    (
        "In the slate",
        "Re-ranking is scored on slates that hold the target, so Recall@10 of a slate of ten is 1 for every order. Multiply by the \
         share of users whose slate holds the target (the hit rate) to compare with scores over the full catalogue.",
    ),
    (
        "prerank",
        "The order in which the candidates came in, that of the generator. A re-ranker that copies it gains nothing.",
    ),
    ("random", "The expected score of a random order, in closed form."),
    (
        "sft, dapo",
        "The re-ranker after supervised training on reasoning traces, and after reinforcement learning. An answer that cannot be \
         read or is no permutation of the slate counts as the incoming order here, as a server would do.",
    ),
    ("sft_miss, dapo_miss", "The same with such an answer counted as a target not found."),
    (
        "oracle",
        "Where the data is synthetic the true preferences are known; this is the score of ordering by them. Chance in what a user \
         buys keeps it below 1.",
    ),
    (
        "of best, of gain",
        "NDCG@5 over that of the oracle; and how much of the way from the incoming order to the oracle was gone.",
    ),
    (
        "95 % interval",
        "Users are drawn anew with replacement, the same users for both rankers, and the difference is taken each time; the \
         interval holds the middle 95 % of these. A difference whose interval excludes zero is not explained by the choice of \
         users; it says nothing about another seed of training.",
    ),
    (
        "valid, valid free, copies",
        "Shares of all answers that are usable; that are usable if they are generated without the grammar that limits semantic \
         ids to those of the slate; that are usable and merely repeat the incoming order.",
    ),
    (
        "zero-variance share",
        "Share of groups of rollouts that all achieved the same. They give no gradient and are left out of a training batch.",
    ),
];

/// The list of terms.
pub(super) fn render() -> String {
    let terms: String = TERMS.iter().map(|(term, meaning)| format!("<dt>{term}</dt><dd>{meaning}</dd>\n")).collect();
    format!("<dl class=\"guide\">\n{terms}</dl>\n")
}
