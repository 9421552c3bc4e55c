//! Gets files over HTTP and unpacks archives: continued after a cut, checked while they stream, published whole.
//!
//! [`download()`] is one file from one of several addresses; [`Hub`] puts one into the Hugging Face cache. Knows no
//! manifest, no data set and no backbone: what is expected of a file is passed in. Nothing here displays or stores a
//! credential, and a credential goes to its own origin only.

pub mod archive;
mod client;
mod download;
pub mod environment;
mod error;
mod hub;
pub mod kaggle;
mod part;
mod progress;
mod response;
mod room;
mod roots;

pub use client::{Client, Credential};
pub use download::{Done, DownloadSource, Wanted, download};
pub use error::{ErrorKind, FetchError};
pub use hub::{Hub, HubFile};
pub use part::Digests;
pub use progress::{Event, OnEvent};
