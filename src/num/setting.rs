//! num: what the environment sets, and why a setting is refused. Knows neither threads nor vectors beyond their names.

use super::pool::MAX_THREADS;
use super::simd::{Path, available};

/// A setting that means nothing here; what it displays is what a user reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSetting(String);

/// The instruction path that `VGCORE_ISA` names, none where it is not set.
pub fn path() -> Result<Option<Path>, BadSetting> {
    read("VGCORE_ISA").map(|asked| path_named(&asked, &available())).transpose()
}

/// The number of threads that `VGCORE_NUM_THREADS` names, none where it is not set.
pub fn threads() -> Result<Option<usize>, BadSetting> {
    read("VGCORE_NUM_THREADS").map(|asked| threads_named(&asked)).transpose()
}

/// Whether all settings mean something.
pub fn check() -> Result<(), BadSetting> {
    path()?;
    threads()?;
    Ok(())
}

/// A variable that is set to nothing is not set.
fn read(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?.to_string_lossy().trim().to_owned();
    (!value.is_empty()).then_some(value)
}

fn path_named(asked: &str, have: &[Path]) -> Result<Path, BadSetting> {
    let list = |paths: &[Path]| paths.iter().map(|p| format!("{:?}", p.name())).collect::<Vec<_>>().join(", ");
    let Some(path) = Path::ALL.into_iter().find(|p| p.name().eq_ignore_ascii_case(asked)) else {
        return Err(BadSetting(format!(
            "VGCORE_ISA: expected one of {}, got {asked:?}; correct it, or leave it out for the widest path that the \
             processor has",
            list(&Path::ALL)
        )));
    };
    if !have.contains(&path) {
        return Err(BadSetting(format!(
            "VGCORE_ISA: expected a path that this processor has ({}), got {asked:?}; name one of these, or leave it out \
             for the widest",
            list(have)
        )));
    }
    Ok(path)
}

fn threads_named(asked: &str) -> Result<usize, BadSetting> {
    asked.parse().ok().filter(|n| (1..=MAX_THREADS).contains(n)).ok_or_else(|| {
        BadSetting(format!(
            "VGCORE_NUM_THREADS: expected an integer from 1 to {MAX_THREADS}, got {asked:?}; correct it, or leave it out \
             for as many threads as the processor offers"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_named_in_any_case_and_no_other_word_is_one() {
        let have = [Path::Scalar, Path::Avx2];
        for (asked, want) in [("scalar", Path::Scalar), ("AVX2", Path::Avx2), ("Avx2", Path::Avx2)] {
            assert_eq!(path_named(asked, &have), Ok(want));
        }
        for asked in ["avx9", "neon", "avx", "1"] {
            let want = format!(
                "VGCORE_ISA: expected one of \"scalar\", \"avx2\", \"avx512\", got {asked:?}; correct it, or leave it out \
                 for the widest path that the processor has"
            );
            assert_eq!(path_named(asked, &have), Err(BadSetting(want)));
        }
        let want = "VGCORE_ISA: expected a path that this processor has (\"scalar\", \"avx2\"), got \"AVX512\"; name one \
                    of these, or leave it out for the widest";
        assert_eq!(path_named("AVX512", &have), Err(BadSetting(want.into())));
    }

    #[test]
    fn threads_are_a_number_in_range() {
        assert_eq!((threads_named("1"), threads_named("1024")), (Ok(1), Ok(1024)));
        for asked in ["0", "-1", "1025", "99999", "abc", "2.0", "99999999999999999999999"] {
            let want = format!(
                "VGCORE_NUM_THREADS: expected an integer from 1 to 1024, got {asked:?}; correct it, or leave it out for as \
                 many threads as the processor offers"
            );
            assert_eq!(threads_named(asked), Err(BadSetting(want)));
        }
    }
}
