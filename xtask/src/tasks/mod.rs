//! The tasks, one file each.

pub mod bench;
pub mod build;
pub mod demo;
mod executables;
pub mod fuzz;
pub mod image;
pub mod kube_assets;
pub mod lab;
mod lab_program;
pub mod scale;
pub mod soak;
pub mod test;
