//! Mails as files, for those who want to look at them or have no server: one `.eml` each, readable by
//! the manager's user alone.

use std::path::Path;

use tokio::io::AsyncWriteExt as _;

use super::message::Message;

pub(super) fn create(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Writes `<id>.eml` beside a temporary name first, so that no reader sees half a mail. A repeat
/// replaces the file. Returns where it is.
pub(super) async fn write(folder: &Path, message: &Message) -> Result<String, String> {
    let id = &message.id;
    let (temporary, finished) = (folder.join(format!(".{id}.tmp")), folder.join(format!("{id}.eml")));
    let written = async {
        let mut options = tokio::fs::OpenOptions::new();
        options.create(true).truncate(true).write(true);
        #[cfg(unix)]
        options.mode(0o600);
        let mut file = options.open(&temporary).await?;
        file.write_all(&message.bytes).await?;
        file.sync_all().await?;
        tokio::fs::rename(&temporary, &finished).await
    };
    match written.await {
        Ok(()) => Ok(format!("written to {}", finished.display())),
        Err(error) => Err(format!("{}: {error}", finished.display())),
    }
}
