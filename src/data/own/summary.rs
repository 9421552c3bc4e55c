//! What was understood, for people and for programs.

use super::Understood;
use crate::text::table;
use serde_json::{Value, json};

impl Understood {
    /// Counts by class and part, and the facts that the manifest will state.
    pub fn text(&self) -> String {
        let row = |(class, n): (String, [usize; 3])| {
            let all: usize = n.iter().sum();
            let counts = n.into_iter().chain([all]).map(|x| x.to_string());
            std::iter::once(class).chain(counts).collect()
        };
        let rows: Vec<Vec<String>> = self.counts().into_iter().map(row).collect();
        let s = &self.spec;
        let of = |v: &[f32]| v.iter().map(|x| format!("{x:.4}")).collect::<Vec<_>>().join(", ");
        let groups = match self.groups {
            0 => "none named".to_owned(),
            n => n.to_string(),
        };
        [
            table(&["class", "train", "val", "test", "all"], &rows),
            String::new(),
            format!(
                "images     {}, {}",
                self.images(),
                if s.channels == 1 { "grey" } else { "colour" }
            ),
            format!("task       {}, target {}", s.task.name(), s.target),
            format!("split      {}", s.split),
            format!("groups     {groups}"),
            format!("train part mean {}; standard deviation {}", of(&s.mean), of(&s.std)),
        ]
        .join("\n")
    }

    /// All of it.
    pub fn json(&self) -> Value {
        json!({
            "table": self.spec, "images": self.images(), "groups": self.groups, "counts": self.counts(), "notes": self.notes(),
            "problems": self.problems(),
        })
    }
}
