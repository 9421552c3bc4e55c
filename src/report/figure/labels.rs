//! Labels beside markers without touching a marker or each other.

/// An upright rectangle, `x0 ≤ x1`, `y0 ≤ y1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    pub x0: f64,
    pub y0: f64,
    pub x1: f64,
    pub y1: f64,
}

impl Rect {
    /// Around a centre.
    pub fn around(x: f64, y: f64, width: f64, height: f64) -> Self {
        Self {
            x0: x - width / 2.0,
            y0: y - height / 2.0,
            x1: x + width / 2.0,
            y1: y + height / 2.0,
        }
    }

    /// Whether the two share an area.
    pub fn meets(&self, o: &Self) -> bool {
        self.x0 < o.x1 && o.x0 < self.x1 && self.y0 < o.y1 && o.y0 < self.y1
    }

    /// Whether `o` lies inside.
    pub fn holds(&self, o: &Self) -> bool {
        self.x0 <= o.x0 && o.x1 <= self.x1 && self.y0 <= o.y0 && o.y1 <= self.y1
    }

    /// Whether the segment from `a` to `b` crosses the inside (sampled every unit; good enough for a leader line).
    pub fn cut_by(&self, a: (f64, f64), b: (f64, f64)) -> bool {
        let steps = (b.0 - a.0).abs().max((b.1 - a.1).abs()).ceil().max(1.0);
        (0..=steps as u32).any(|i| {
            let t = f64::from(i) / steps;
            let (x, y) = (a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1));
            self.x0 < x && x < self.x1 && self.y0 < y && y < self.y1
        })
    }
}

/// A marker that wants a label of this size.
#[derive(Debug, Clone, Copy)]
pub struct Anchor {
    pub x: f64,
    pub y: f64,
    pub radius: f64,
    pub width: f64,
    pub height: f64,
}

/// A segment.
pub type Line = ((f64, f64), (f64, f64));

/// A placed label and, when it is not beside its marker, the line that leads to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed {
    pub rect: Rect,
    pub leader: Option<Line>,
}

/// Distances from the marker that are tried; from the second on with a leader line.
const REACH: [f64; 7] = [2.0, 14.0, 26.0, 40.0, 56.0, 76.0, 100.0];

/// Places a label for every anchor for which there is room inside `frame`; `obstacles` are the markers and bars.
///
/// The anchor with the fewest free places goes first. A label without a free place is left out rather than
/// drawn over something. The result is in the order of the anchors and depends on nothing else.
pub fn place(anchors: &[Anchor], obstacles: &[Rect], frame: &Rect) -> Vec<Option<Placed>> {
    let mut placed: Vec<Option<Placed>> = vec![None; anchors.len()];
    let mut free: Vec<Vec<Placed>> = anchors.iter().map(|a| candidates(a, obstacles, frame)).collect();
    let mut waiting: Vec<usize> = (0..anchors.len()).collect();
    while let Some(next) = waiting.iter().copied().min_by_key(|&i| (free[i].len(), i)) {
        waiting.retain(|&i| i != next);
        let Some(&best) = free[next].first() else { continue };
        placed[next] = Some(best);
        for &i in &waiting {
            free[i].retain(|c| {
                let crosses = |line: Option<Line>, rect: &Rect| line.is_some_and(|(a, b)| rect.cut_by(a, b));
                !c.rect.meets(&best.rect) && !crosses(c.leader, &best.rect) && !crosses(best.leader, &c.rect)
            });
        }
    }
    placed
}

/// The free places of one label, best first: near, and with a leader line that runs over few markers.
fn candidates(a: &Anchor, obstacles: &[Rect], frame: &Rect) -> Vec<Placed> {
    let mut free: Vec<(usize, Placed)> = Vec::new();
    for (ring, reach) in REACH.into_iter().enumerate() {
        for side in SIDES {
            let rect = beside(a, reach, side);
            if !frame.holds(&rect) || obstacles.iter().any(|o| o.meets(&rect)) {
                continue;
            }
            let line = leader(a, &rect);
            let own = |o: &Rect| o.x0 <= a.x && a.x <= o.x1 && o.y0 <= a.y && a.y <= o.y1;
            let crossed = obstacles
                .iter()
                .filter(|o| ring > 0 && !own(o) && o.cut_by(line.0, line.1))
                .count();
            free.push((
                ring + 2 * crossed,
                Placed {
                    rect,
                    leader: (ring > 0).then_some(line),
                },
            ));
        }
    }
    free.sort_by_key(|(cost, _)| *cost);
    free.into_iter().map(|(_, place)| place).collect()
}

/// Right, left, above, below, then the corners.
const SIDES: [(f64, f64); 8] = [
    (1.0, 0.0),
    (-1.0, 0.0),
    (0.0, -1.0),
    (0.0, 1.0),
    (1.0, -1.0),
    (1.0, 1.0),
    (-1.0, -1.0),
    (-1.0, 1.0),
];

fn beside(a: &Anchor, reach: f64, (sx, sy): (f64, f64)) -> Rect {
    // On the corners the distance is shared between the two directions.
    let gap = (a.radius + reach) * if sx != 0.0 && sy != 0.0 { 0.7 } else { 1.0 };
    let (x, y) = (a.x + sx * (gap + a.width / 2.0), a.y + sy * (gap + a.height / 2.0));
    Rect::around(x, y, a.width, a.height)
}

/// From the edge of the marker to the nearest point of the label.
fn leader(a: &Anchor, label: &Rect) -> Line {
    let near = (a.x.clamp(label.x0, label.x1), a.y.clamp(label.y0, label.y1));
    let (dx, dy) = (near.0 - a.x, near.1 - a.y);
    let length = (dx * dx + dy * dy).sqrt().max(1.0);
    ((a.x + dx / length * a.radius, a.y + dy / length * a.radius), near)
}

/// Moves the middles of labels apart along one line: at least `gap` between neighbours, inside `low` to `high` where there is
/// room, and in all as near to where they were as that allows (least squares, by pooling neighbours that touch).
pub fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    // With the k-th shifted back by k gaps, the condition is that the places do not decrease.
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (k, &i) in order.iter().enumerate() {
        pools.push((wanted[i] - k as f64 * gap, 1));
        while let [.., a, b] = pools[..]
            && a.0 > b.0
        {
            pools.truncate(pools.len() - 2);
            let n = a.1 + b.1;
            pools.push(((a.0 * a.1 as f64 + b.0 * b.1 as f64) / n as f64, n));
        }
    }
    let last = high - wanted.len().saturating_sub(1) as f64 * gap;
    let places = pools.iter().flat_map(|&(at, n)| std::iter::repeat_n(at, n));
    let mut out = vec![0.0; wanted.len()];
    for (k, (&i, at)) in order.iter().zip(places).enumerate() {
        out[i] = at.min(last).max(low) + k as f64 * gap;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn nothing_overlaps_in_a_crowd() {
        let mut rng = Stream::new(3, Purpose::Test, 0, 0);
        let frame = Rect {
            x0: 0.0,
            y0: 0.0,
            x1: 600.0,
            y1: 400.0,
        };
        let mut shown = 0;
        for _ in 0..50 {
            let anchors: Vec<Anchor> = (0..16)
                .map(|_| Anchor {
                    x: rng.uniform_in(100.0, 300.0),
                    y: rng.uniform_in(100.0, 300.0),
                    radius: 7.0,
                    width: rng.uniform_in(50.0, 90.0),
                    height: 18.0,
                })
                .collect();
            let markers: Vec<Rect> = anchors.iter().map(|a| Rect::around(a.x, a.y, 14.0, 14.0)).collect();
            let placed = place(&anchors, &markers, &frame);
            let rects: Vec<Rect> = placed.iter().flatten().map(|p| p.rect).collect();
            shown += rects.len();
            for (i, r) in rects.iter().enumerate() {
                assert!(frame.holds(r));
                assert!(markers.iter().all(|m| !m.meets(r)));
                assert!(rects[..i].iter().all(|o| !o.meets(r)));
            }
        }
        assert!(shown > 50 * 16 * 9 / 10, "{shown} of {} labels shown", 50 * 16);
    }

    #[test]
    fn a_lone_label_stands_to_the_right_without_a_line() {
        let a = Anchor {
            x: 50.0,
            y: 50.0,
            radius: 5.0,
            width: 40.0,
            height: 10.0,
        };
        let frame = Rect {
            x0: 0.0,
            y0: 0.0,
            x1: 200.0,
            y1: 100.0,
        };
        let p = place(&[a], &[], &frame)[0].unwrap();
        assert_eq!((p.rect.x0, p.leader), (57.0, None));
    }

    /// By hand: 10 and 12 want 4 between them, so 9 and 13; 40 stays; 99 is held back to 95.
    #[test]
    fn crowded_labels_move_apart_by_the_least() {
        assert_eq!(spread(&[12.0, 40.0, 10.0, 99.0], 4.0, 0.0, 95.0), [13.0, 40.0, 9.0, 95.0]);
        assert_eq!(spread(&[0.0, 0.0, 0.0], 4.0, 0.0, 95.0), [0.0, 4.0, 8.0]);
        assert_eq!(spread(&[], 4.0, 0.0, 95.0), [0.0; 0]);
    }
}
