//! The orders in which a scan passes over a map.

use std::sync::Arc;

/// The orders in which a map's positions (row-major) are scanned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders {
    lists: Arc<Vec<Vec<u32>>>,
    map: [usize; 2],
}

impl Orders {
    /// VMamba's four: by rows, by columns, by rows backwards, by columns backwards.
    pub fn cross(h: usize, w: usize) -> Self {
        let rows: Vec<u32> = (0..(h * w) as u32).collect();
        let columns: Vec<u32> = (0..h * w).map(|t| (t % h * w + t / h) as u32).collect();
        let back = |v: &[u32]| v.iter().rev().copied().collect();
        let lists = vec![rows.clone(), columns.clone(), back(&rows), back(&columns)];
        Self {
            lists: Arc::new(lists),
            map: [h, w],
        }
    }

    /// One direction, positions as they are.
    pub fn single(len: usize) -> Self {
        Self {
            lists: Arc::new(vec![(0..len as u32).collect()]),
            map: [1, len],
        }
    }

    /// Positions in the order of each direction.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.lists.iter().map(Vec::as_slice)
    }

    /// Number of directions, height and width: what the orders follow from.
    pub(crate) fn sizes(&self) -> [usize; 3] {
        [self.directions(), self.map[0], self.map[1]]
    }

    /// Number of directions K.
    pub fn directions(&self) -> usize {
        self.lists.len()
    }

    /// Number of positions L.
    pub fn positions(&self) -> usize {
        self.lists.first().map_or(0, Vec::len)
    }
}
