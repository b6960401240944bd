//! Chat: what all wires share between the fields of a request and the chunks of its answer.
