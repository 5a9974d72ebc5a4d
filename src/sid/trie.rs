//! Which codes may follow a prefix: a trie of all identifiers in sorted flat arrays.

use super::codes::SemanticIds;
use crate::error::{Error, Result};

/// The identifiers of a catalogue as a tree of codes.
///
/// Nodes of a depth stand in the order of their prefixes, so that the children of a node, and the items below it, are
/// one run each. Memory: 6 bytes per node and 4 per item.
#[derive(Debug, Clone, PartialEq)]
pub struct Trie {
    /// `codes[d]` holds the last code of every prefix of d + 1 codes.
    codes: Vec<Vec<u16>>,
    /// `first[d][i]` is where the children of that prefix begin in `codes[d + 1]`, or its items in `items`; one more at the end.
    first: Vec<Vec<u32>>,
    items: Vec<u32>,
}

/// A prefix in a [`Trie`]; it belongs to the trie that gave it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    depth: u32,
    index: u32,
}

impl Node {
    /// Codes of the prefix: 0 at the root, the number of levels at a leaf.
    pub fn depth(self) -> usize {
        self.depth as usize
    }
}

impl Trie {
    /// Builds the trie of all items for which `excluded` is false.
    ///
    /// Because at least one item is left, only a leaf has no children: a prefix that decoding can reach always has a
    /// way on, until the identifier is complete.
    ///
    /// Errors: `Shape` if no item is left.
    pub fn new(ids: &SemanticIds, excluded: impl Fn(u32) -> bool) -> Result<Self> {
        let levels = ids.levels();
        let mut trie = Trie { codes: vec![Vec::new(); levels], first: vec![Vec::new(); levels], items: Vec::new() };
        let mut last: Option<&[u16]> = None;
        for item in ids.order().into_iter().filter(|&item| !excluded(item)) {
            let codes = ids.get(item as usize);
            let shared = last.map_or(0, |last| last.iter().zip(codes).take_while(|(a, b)| a == b).count());
            for (level, &code) in codes.iter().enumerate().skip(shared) {
                let below = if level + 1 < levels { trie.codes[level + 1].len() } else { trie.items.len() };
                trie.codes[level].push(code);
                trie.first[level].push(below as u32);
            }
            trie.items.push(item);
            last = Some(codes);
        }
        if trie.items.is_empty() {
            let problem = format!("none of {} items is left: nothing could be decoded", ids.items());
            return Err(Error::Shape { op: "trie", problem });
        }
        for level in 0..levels {
            let end = if level + 1 < levels { trie.codes[level + 1].len() } else { trie.items.len() };
            trie.first[level].push(end as u32);
        }
        Ok(trie)
    }

    /// Codes of a complete identifier.
    pub fn levels(&self) -> usize {
        self.codes.len()
    }

    /// The empty prefix.
    pub fn root(&self) -> Node {
        Node { depth: 0, index: 0 }
    }

    /// Whether the prefix is a complete identifier.
    pub fn is_leaf(&self, node: Node) -> bool {
        node.depth() == self.levels()
    }

    /// The codes that may follow, ascending; empty at a leaf and only there.
    pub fn children(&self, node: Node) -> &[u16] {
        if self.is_leaf(node) {
            return &[];
        }
        let (start, end) = self.child_range(node);
        &self.codes[node.depth()][start..end]
    }

    /// The prefix one code longer; `None` if no item has it.
    pub fn step(&self, node: Node, code: u16) -> Option<Node> {
        let at = self.children(node).binary_search(&code).ok()?;
        let (start, _) = self.child_range(node);
        Some(Node { depth: node.depth + 1, index: (start + at) as u32 })
    }

    /// The items below a prefix, by code and then number; at a leaf the items that share it, the first being its owner.
    pub fn items(&self, node: Node) -> &[u32] {
        if node.depth == 0 {
            return &self.items;
        }
        let (mut start, mut end) = (node.index as usize, node.index as usize + 1);
        for first in &self.first[node.depth() - 1..] {
            (start, end) = (first[start] as usize, first[end] as usize);
        }
        &self.items[start..end]
    }

    /// The node of a prefix or a complete identifier; `None` if no item has it.
    pub fn find(&self, codes: &[u16]) -> Option<Node> {
        codes.iter().try_fold(self.root(), |node, &code| self.step(node, code))
    }

    /// The item an identifier stands for: of several that share it the one with the lowest number, `None` if it is not
    /// complete or no item has it.
    pub fn owner(&self, codes: &[u16]) -> Option<u32> {
        let node = self.find(codes).filter(|&node| self.is_leaf(node))?;
        self.items(node).first().copied()
    }

    fn child_range(&self, node: Node) -> (usize, usize) {
        match node.depth() {
            0 => (0, self.codes[0].len()),
            depth => {
                let first = &self.first[depth - 1];
                (first[node.index as usize] as usize, first[node.index as usize + 1] as usize)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> SemanticIds {
        // Items 1 and 4 share an identifier.
        SemanticIds::new(3, 8, vec![5, 1, 0, 2, 3, 4, 2, 3, 1, 5, 0, 7, 2, 3, 4]).unwrap()
    }

    fn none(_: u32) -> bool {
        false
    }

    #[test]
    fn walks_prefixes() {
        let t = Trie::new(&ids(), none).unwrap();
        assert_eq!(t.children(t.root()), [2, 5]);
        let two = t.step(t.root(), 2).unwrap();
        assert_eq!((t.children(two), t.items(two)), (&[3u16][..], &[2u32, 1, 4][..]));
        let five = t.step(t.root(), 5).unwrap();
        assert_eq!(t.children(five), [0, 1]);
        assert_eq!((t.step(five, 3), t.step(t.root(), 0)), (None, None));
        let leaf = t.find(&[2, 3, 4]).unwrap();
        assert!(t.is_leaf(leaf) && t.children(leaf).is_empty());
        assert_eq!((t.items(leaf), t.items(t.root()).len()), (&[1u32, 4][..], 5));
        assert_eq!((t.owner(&[2, 3, 4]), t.owner(&[2, 3]), t.owner(&[2, 3, 5])), (Some(1), None, None));
    }

    #[test]
    fn accepts_exactly_the_catalogue() {
        let ids = ids();
        let t = Trie::new(&ids, none).unwrap();
        let all: Vec<&[u16]> = (0..5).map(|i| ids.get(i)).collect();
        for n in 0..512u16 {
            let codes = [n / 64, n / 8 % 8, n % 8];
            assert_eq!(t.find(&codes).is_some(), all.contains(&&codes[..]), "{codes:?}");
        }
        // Every path from the root ends in an item: no dead ends.
        let mut open = vec![t.root()];
        let mut leaves = 0;
        while let Some(node) = open.pop() {
            assert_eq!(t.is_leaf(node), t.children(node).is_empty());
            leaves += usize::from(t.is_leaf(node));
            open.extend(t.children(node).iter().filter_map(|&c| t.step(node, c)));
        }
        assert_eq!(leaves, 4);
    }

    #[test]
    fn excluded_items_leave_no_branch() {
        let t = Trie::new(&ids(), |item| item == 0 || item == 1).unwrap();
        assert_eq!(t.find(&[5, 1]), None);
        assert_eq!(t.owner(&[2, 3, 4]), Some(4));
        let message = Trie::new(&ids(), |_| true).unwrap_err().to_string();
        assert_eq!(message, "trie: none of 5 items is left: nothing could be decoded");
    }
}
