//! The figures that a run measures. They are written to `results.json`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The figures of one run by name.
pub(crate) type Figures = BTreeMap<String, Figure>;

/// A figure. JSON has no infinity, so it is `null` there.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(from = "Option<f64>", into = "Option<f64>")]
pub(crate) struct Figure(pub(crate) f64);

impl From<Option<f64>> for Figure {
    fn from(figure: Option<f64>) -> Self {
        Self(figure.unwrap_or(f64::INFINITY))
    }
}

impl From<Figure> for Option<f64> {
    fn from(figure: Figure) -> Self {
        Some(figure.0).filter(|number| number.is_finite())
    }
}

/// The result of one run on one system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The id of the run, as in `rows.rs`.
    pub(crate) run: String,
    /// The id of the system.
    #[serde(rename = "contender")]
    pub(crate) system: String,
    pub(crate) figures: Figures,
}

/// Returns figures by name.
pub(crate) fn figures<const N: usize>(named: [(&str, f64); N]) -> Figures {
    named.into_iter().map(|(name, figure)| (name.to_owned(), Figure(figure))).collect()
}
