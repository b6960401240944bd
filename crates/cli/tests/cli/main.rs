//! The command line as its users meet it: the real binary, real files, pipes and signals.

mod agents;
mod artefact;
mod bench;
mod binary;
mod chat;
mod compare;
mod files;
mod hostile;
mod inspect;
mod interrupt;
mod logits;
mod model;
mod pack;
mod quantize;
mod replay;
mod run;
mod serve;
mod synth;
mod tokenize;
mod verify;
