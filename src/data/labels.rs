//! The task of a data set, and the truth of its images, typed by it.

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// One of `n` classes; softmax and cross-entropy.
    MultiClass(usize),
    /// `n` independent labels; sigmoid and binary cross-entropy.
    MultiLabel(usize),
}

impl Task {
    /// Number of logits.
    pub fn outputs(self) -> usize {
        match self {
            Self::MultiClass(n) | Self::MultiLabel(n) => n,
        }
    }
}

/// One truth for each of several images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// Of a task of classes: the class of each image.
    Classes(Vec<u32>),
    /// Of a task of several labels: 0 or 1 for each, (images, labels), row by row.
    MultiHot {
        /// Labels of an image.
        labels: usize,
        bits: Vec<u8>,
    },
}

impl Labels {
    /// No images of a task.
    pub fn none(task: Task) -> Self {
        match task {
            Task::MultiClass(_) => Self::Classes(Vec::new()),
            Task::MultiLabel(labels) => Self::MultiHot {
                labels,
                bits: Vec::new(),
            },
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(all) => all.len(),
            Self::MultiHot { labels, bits } => bits.len().checked_div(*labels).unwrap_or(0),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The truth of some images, in their order.
    pub fn pick(&self, images: impl IntoIterator<Item = u32>) -> Self {
        let images = images.into_iter().map(|i| i as usize);
        match self {
            Self::Classes(all) => Self::Classes(images.map(|i| all[i]).collect()),
            Self::MultiHot { labels, bits } => Self::MultiHot {
                labels: *labels,
                bits: images.flat_map(|i| &bits[i * labels..][..*labels]).copied().collect(),
            },
        }
    }

    /// What is true of an image: its class, or its positive labels in their order.
    pub fn of(&self, image: u32) -> Vec<u32> {
        let i = image as usize;
        match self {
            Self::Classes(all) => vec![all[i]],
            Self::MultiHot { labels, bits } => {
                let row = &bits[i * labels..][..*labels];
                (0u32..).zip(row).filter(|l| *l.1 > 0).map(|l| l.0).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stay_whole() {
        let all = Labels::MultiHot {
            labels: 3,
            bits: vec![1, 0, 1, 0, 0, 0, 0, 1, 0],
        };
        assert_eq!((all.len(), all.of(0), all.of(1)), (3, vec![0, 2], vec![]));
        let picked = Labels::MultiHot {
            labels: 3,
            bits: vec![0, 1, 0, 1, 0, 1],
        };
        assert_eq!(all.pick([2, 0]), picked);
        let classes = Labels::Classes(vec![4, 0, 2]);
        assert_eq!((classes.len(), classes.of(2)), (3, vec![2]));
        assert_eq!(classes.pick([2, 2]), Labels::Classes(vec![2, 2]));
        for task in [Task::MultiClass(4), Task::MultiLabel(3)] {
            assert!(Labels::none(task).is_empty());
        }
    }
}
