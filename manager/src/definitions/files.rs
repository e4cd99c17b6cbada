//! The files that definitions are read from and written to.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::document::{self, Document, MAX_FILE_BYTES, Reader};
use super::model::{Kind, Place};

/// Files of one call at most.
pub const MAX_FILES: usize = 1_000;
/// Folders within each other at most.
pub const MAX_FOLDERS: usize = 16;
/// Bytes of all files at most.
pub const MAX_BYTES: usize = 64 << 20;
/// What a name ends with so that the file is read.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads what `paths` name: files, folders with all that is in them, `-` for the standard input.
pub fn read(paths: &[PathBuf]) -> anyhow::Result<Reader> {
    let mut reader = Reader::default();
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            let most = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
            std::io::stdin().take(most).read_to_string(&mut text).context("the standard input")?;
            reader.text("-", &text);
        } else if std::fs::metadata(path).with_context(|| path.display().to_string())?.is_dir() {
            let before = files.len();
            collect(path, 0, &mut files)?;
            if files.len() == before {
                bail!("{}: holds no file *.{}", path.display(), ENDINGS.join(", *."));
            }
        } else {
            files.push(path.clone());
        }
    }
    if files.len() > MAX_FILES {
        bail!("these are {} files, {MAX_FILES} at most: apply them in parts", files.len());
    }
    let mut bytes = 0;
    for file in files {
        let name = file.display().to_string();
        let size = std::fs::metadata(&file).with_context(|| name.clone())?.len();
        bytes += usize::try_from(size).unwrap_or(usize::MAX).min(MAX_BYTES + 1);
        if bytes > MAX_BYTES {
            bail!("{name}: with it the files have more than {MAX_BYTES} bytes: apply them in parts");
        }
        match std::fs::read_to_string(&file) {
            Ok(text) => reader.text(&name, &text),
            Err(error) => {
                let place = Place { source: name.into(), line: 0, field: String::new() };
                reader.unreadable(place, error.to_string());
            }
        }
    }
    Ok(reader)
}

/// The files of a folder and of those in it, sorted; hidden ones and symbolic links are left out.
fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if depth >= MAX_FOLDERS {
        bail!("{}: folders lie within each other more than {MAX_FOLDERS} times", folder.display());
    }
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().with_context(|| folder.display().to_string())?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let kind = entry.file_type().with_context(|| path.display().to_string())?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") || kind.is_symlink() {
            continue;
        }
        if kind.is_dir() {
            collect(&path, depth + 1, files)?;
        } else if path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)) {
            if files.len() > MAX_FILES {
                bail!("{}: holds more than {MAX_FILES} files: apply them in parts", folder.display());
            }
            files.push(path);
        }
    }
    Ok(())
}

/// How definitions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Documents, each after a line `---`.
    Yaml,
    /// A list.
    Json,
}

impl Format {
    /// By the ending of a file's name; None: it is a folder's.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Json => "json",
        }
    }
}

/// The definitions as a file has them.
pub fn text(documents: &[Document], format: Format) -> anyhow::Result<String> {
    Ok(match format {
        Format::Yaml => document::to_yaml(documents)?,
        Format::Json => serde_json::to_string_pretty(documents)? + "\n",
    })
}

/// Writes one file per kind into a folder, also for kinds of which there is none: what an earlier
/// export has written of them would otherwise come back with the next apply.
pub fn write_folder(
    folder: &Path,
    kinds: &[Kind],
    documents: &[Document],
    format: Format,
) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for kind in kinds {
        for other in ENDINGS.into_iter().filter(|ending| *ending != format.ending()) {
            let path = folder.join(format!("{}.{other}", kind.plural()));
            if path.exists() {
                bail!(
                    "{} is there already, and would be applied beside the new file: remove it, or choose its format",
                    path.display()
                );
            }
        }
    }
    let mut written = Vec::new();
    for kind in kinds {
        let of: Vec<Document> =
            documents.iter().filter(|document| document.kind() == *kind).cloned().collect();
        let path = folder.join(format!("{}.{}", kind.plural(), format.ending()));
        write_file(&path, &text(&of, format)?)?;
        written.push(path);
    }
    Ok(written)
}

/// Writes a file beside the one that it then replaces, so that there is never half of one.
pub fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    let name = path.file_name().context("names no file")?.to_string_lossy().into_owned();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_folder_has_one_format() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |format| write_folder(folder.path(), &[Kind::Group, Kind::Api], &[], format);
        write(Format::Yaml).expect("written");
        write(Format::Yaml).expect("written again");
        let refused = write(Format::Json).expect_err("both would be applied").to_string();
        assert!(refused.contains("groups.yaml is there already"), "{refused}");
        assert!(!folder.path().join("apis.json").exists(), "nothing is written");
        std::fs::remove_file(folder.path().join("groups.yaml")).expect("removed");
        std::fs::rename(folder.path().join("apis.yaml"), folder.path().join("apis.yml")).expect("renamed");
        write(Format::Json).expect_err("apis.yml is still there");
    }
}
