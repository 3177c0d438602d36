//! The agent goes away, for a while or for good, or cannot work at all.

mod by_hand;
mod detach;
mod flow_table;
mod foreign;
mod half_done;
mod other_versions;
mod restarts;
mod unfit;
