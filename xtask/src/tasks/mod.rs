//! The tasks, one file each.

pub mod build;
pub mod demo;
pub mod fuzz;
pub mod image;
pub mod kube_assets;
pub mod lab;
pub mod scale;
pub mod test;

mod bench;
mod executables;
