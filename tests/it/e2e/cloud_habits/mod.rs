//! The whole box against a cloud with habits: what is judged is what the cloud holds in the end.
//!
//! Written from the public facts about the cloud and from nothing of the uploader: a test here
//! knows what must be true of the cloud's storage, not how the box brings it about.

mod cover;
mod habits;
mod seen;
mod trial;
