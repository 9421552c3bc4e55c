//! `medft data`: what the data sets are, and whether the files here are they.

use super::{data_add, data_audit, data_card, data_fetch, data_list, data_lock, data_synth, data_verify};
use crate::cli::DataVerb;
use crate::manifest::VerifyMode;
use crate::runner::Context;
use anyhow::Result;

pub(super) fn run(c: &Context, v: DataVerb) -> Result<u8> {
    match v {
        DataVerb::List => data_list::run(c),
        DataVerb::Verify {
            sets,
            since_lock,
            full: _,
            phantom,
            images,
        } => {
            let mode = if since_lock {
                VerifyMode::SinceLock
            } else {
                VerifyMode::Full
            };
            data_verify::run(c, &sets, mode, phantom, images)
        }
        DataVerb::Audit(a) => data_audit::run(c, &a),
        DataVerb::Card { set, phantom } => data_card::run(c, &set, phantom),
        DataVerb::Fetch {
            sets,
            copy,
            accept_terms,
        } => data_fetch::fetch(c, &sets, copy.as_deref(), accept_terms),
        DataVerb::Import { set, archives, copy } => data_fetch::import(c, &set, &archives, copy.as_deref()),
        DataVerb::Add(a) => data_add::run(c, *a),
        DataVerb::Lock {
            sets,
            accept_labels,
            images,
        } => data_lock::run(c, &sets, accept_labels, images),
        DataVerb::Synth {
            sets,
            images,
            write_lists,
        } => data_synth::run(c, &sets, images, write_lists.as_deref()),
    }
}
