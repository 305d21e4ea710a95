//! Recovery as a whole: dialogues with a peer by hand, and a simulated bottleneck.

mod adversary;
mod dialogues;
mod network;
mod simulation;
