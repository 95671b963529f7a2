//! What is read of images in each form, and what is said of each fault.

mod archives;
mod choosing;
mod docker;
mod layouts;
mod sources;
