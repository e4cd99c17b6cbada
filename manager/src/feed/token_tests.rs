//! Tokens and the keys that sign them, as gateways hear of them.

use gate::id::{Epoch, Revision};
use gate::wire::directory::DirectoryAnswer;

use super::{Directory, actions};
use crate::testing::World;
use crate::tokens;

async fn directory(world: &World, known: Option<(Epoch, Revision)>) -> Option<DirectoryAnswer> {
    let known = known.unzip();
    match actions::directory(&world.app, known.0, known.1).await.expect("the database") {
        Directory::Unchanged => None,
        Directory::Answer(answer) => Some(*answer),
    }
}

#[tokio::test]
async fn a_gateway_fetches_the_directory_when_the_keys_of_tokens_change() {
    for world in World::both().await {
        let none = directory(&world, None).await.expect("all");
        assert_eq!(none.token_keys, []);
        tokens::keys::ensure(&world.app).await.expect("made");
        let one = directory(&world, Some((none.epoch, none.revision))).await.expect("the first key");
        assert_eq!((one.since, one.token_keys.len()), (Some(none.revision), 1));
        assert!(directory(&world, Some((one.epoch, one.revision))).await.is_none(), "nothing new");

        let (next, _) = tokens::keys::rotate(&world.app, "test").await.expect("rotated");
        let both = directory(&world, Some((one.epoch, one.revision))).await.expect("the next key");
        let names: Vec<_> = both.token_keys.iter().map(|key| key.kid.as_str()).collect();
        assert_eq!(names, [one.token_keys[0].kid.as_str(), next.as_str()]);
    }
}
