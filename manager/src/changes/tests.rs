use std::time::Duration;

use gate::id::{ClientId, Epoch, MeterId, Revision};
use gate::time::UnixMillis;
use gate::wire::changes::Subject;

use super::*;
use crate::db::Db;
use crate::testing::World;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn recall(number: u64) -> Subject {
    Subject::Recall { meter: MeterId(number), lowered: false }
}

async fn record_one(db: &Db, subject: &Subject) -> Revision {
    let mut write = db.write("test.record").await.unwrap();
    let revision = record(&mut write, subject, NOW).await.unwrap();
    write.commit().await.unwrap();
    revision
}

async fn revision_of(db: &Db) -> Revision {
    head(&mut db.read().await.unwrap()).await.unwrap().revision
}

#[tokio::test]
async fn changes_are_numbered_without_a_gap_even_when_a_writer_gives_up() {
    for world in World::both().await {
        let db = world.app.db.clone();
        assert_eq!(record_one(&db, &recall(1)).await, Revision(1));
        let mut given_up = db.write("test.given_up").await.unwrap();
        record(&mut given_up, &recall(99), NOW).await.unwrap();
        drop(given_up);
        let client = Subject::Client { client: ClientId::from("acme") };
        assert_eq!(record_one(&db, &client).await, Revision(2));

        let mut read = db.read().await.unwrap();
        let Page::Changes(changes) = page(&mut read, Revision(0), Revision(2), 10).await.unwrap() else {
            panic!("both changes are kept");
        };
        let seen: Vec<_> = changes.into_iter().map(|change| (change.revision.0, change.subject)).collect();
        assert_eq!(seen, [(1, recall(1)), (2, client)]);
        let one = page(&mut read, Revision(0), Revision(2), 1).await.unwrap();
        assert!(matches!(one, Page::Changes(changes) if changes.len() == 1), "the limit holds");
        assert_eq!(page(&mut read, Revision(2), Revision(2), 10).await.unwrap(), Page::Changes(vec![]));
    }
}

/// With a plain sequence a poll saw number 2 while number 1 was not committed yet, and never
/// asked for 1 again.
#[tokio::test]
async fn a_later_number_waits_until_the_earlier_one_is_decided() {
    for world in World::both().await {
        let db = world.app.db.clone();
        let mut first = db.write("test.first").await.unwrap();
        assert_eq!(record(&mut first, &recall(1), NOW).await.unwrap(), Revision(1));
        let second = tokio::spawn({
            let db = db.clone();
            async move { record_one(&db, &recall(2)).await }
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!second.is_finished(), "{:?}: the second writer overtook the first", db.dialect());
        assert_eq!(revision_of(&db).await, Revision(0), "{:?}", db.dialect());
        first.commit().await.unwrap();
        assert_eq!(second.await.unwrap(), Revision(2));
        assert_eq!(revision_of(&db).await, Revision(2));
    }
}

/// The same from a poller's eyes: whatever it has seen last, nothing older appears afterwards.
#[tokio::test]
async fn a_poller_misses_nothing_that_concurrent_writers_record() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 10;
    for world in World::both().await {
        let db = world.app.db.clone();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let db = db.clone();
                tokio::spawn(async move {
                    for n in 0..EACH {
                        record_one(&db, &recall(writer * EACH + n)).await;
                    }
                })
            })
            .collect();
        let (mut since, mut seen) = (Revision(0), Vec::new());
        while since.0 < WRITERS * EACH {
            let mut read = db.read().await.unwrap();
            let until = head(&mut read).await.unwrap().revision;
            let Page::Changes(changes) = page(&mut read, since, until, 7).await.unwrap() else {
                panic!("{:?}: a change is missing", db.dialect());
            };
            seen.extend(changes.iter().map(|change| change.revision.0));
            since = changes.last().map_or(since, |change| change.revision);
            drop(read);
            tokio::task::yield_now().await;
        }
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(seen, (1..=WRITERS * EACH).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_poller_that_lags_beyond_what_is_kept_is_told_so() {
    for world in World::both().await {
        let db = world.app.db.clone();
        let mut write = db.write("test.record").await.unwrap();
        let last = RETAINED_CHANGES + 64;
        for n in 1..=last {
            record(&mut write, &recall(n), NOW).await.unwrap();
        }
        write.commit().await.unwrap();
        let mut read = db.read().await.unwrap();
        let until = head(&mut read).await.unwrap().revision;
        let oldest_kept = until.0 / 64 * 64 - RETAINED_CHANGES;
        assert_eq!(page(&mut read, Revision(oldest_kept - 1), until, 10).await.unwrap(), Page::TooOld);
        let kept = page(&mut read, Revision(oldest_kept), until, 10).await.unwrap();
        assert!(matches!(kept, Page::Changes(changes) if changes.len() == 10));
    }
}

#[tokio::test]
async fn a_waiting_poll_wakes_at_a_commit_of_this_process_and_soon_after_one_of_another() {
    for world in World::both().await {
        let db = world.app.db.clone();
        // A second handle on the same database knows nothing of the first one's commits.
        let elsewhere = world.another_process().await;
        for (writer, whose) in [(&db, "own"), (&elsewhere, "another's")] {
            let since = revision_of(&db).await;
            let waiting = tokio::spawn({
                let db = db.clone();
                async move { Watch::default().beyond(&db, since, Duration::from_secs(5)).await.unwrap() }
            });
            tokio::time::sleep(Duration::from_millis(20)).await;
            record_one(writer, &recall(1)).await;
            let woken = tokio::time::timeout(Duration::from_secs(1), waiting).await;
            let head = woken.unwrap_or_else(|_| panic!("{whose} commit was not seen")).unwrap();
            assert_eq!(head.revision, Revision(since.0 + 1));
        }
        let idle = Watch::default().beyond(&db, Revision(2), Duration::from_millis(30)).await.unwrap();
        assert_eq!(idle.revision, Revision(2), "nothing new: the head as it is");
    }
}

#[tokio::test]
async fn an_epoch_is_drawn_once() {
    for world in World::both().await {
        let db = world.app.db.clone();
        for fresh in [7, 8] {
            let mut write = db.write("test.epoch").await.unwrap();
            renew_epoch(&mut write, Epoch(0), Epoch(fresh)).await.unwrap();
            write.commit().await.unwrap();
        }
        let head = head(&mut db.read().await.unwrap()).await.unwrap();
        assert_eq!(head.epoch, Epoch(7), "{:?}", db.dialect());
    }
}
