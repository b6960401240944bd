//! The model in the box, and held-out conversations as its template writes them: those that
//! `tools/box-model` makes of the seeds `held out 0` to `held out 23`.

use std::path::Path;
use std::sync::Arc;

use qwire_gguf::File;
use qwire_model::TokenId;
use qwire_text::{Special, Vocabulary};

/// The model.
pub fn model() -> Arc<File> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/qwire-box.gguf");
    Arc::new(File::open(&path).expect("the box model"))
}

/// Its conversations, the longest first.
pub fn conversations(model: &File) -> Vec<Vec<TokenId>> {
    let vocabulary = Vocabulary::from_gguf(model.metadata()).expect("its vocabulary");
    let text =
        include_str!("held_out.txt").replace("<|im_end|><|im_start|>", "<|im_end|>\0<|im_start|>");
    let ids = |text| vocabulary.encode(text, Special::Parse).into_iter().map(TokenId).collect();
    let mut conversations: Vec<Vec<TokenId>> = text.split('\0').map(ids).collect();
    conversations.sort_by_key(|ids| std::cmp::Reverse(ids.len()));
    conversations
}
