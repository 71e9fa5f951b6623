//! What the messages of a component have in common, and how they become bytes: here the level of the cluster becomes
//! the version in which a message is written. Each component lists its versions in its own file.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::messages::Lane;
use crate::types::Level;
use crate::types::codec::{CodecError, decode_body, encode_body};

/// The messages of one component, in the newest version.
pub trait Component: Sized + Serialize + DeserializeOwned {
    /// Its name, for traces and metrics.
    const NAME: &'static str;
    /// The lane that its messages travel on, unless they are large.
    const LANE: Lane;
    /// Its versions, rising, and the level from which on each is spoken.
    const VERSIONS: &'static [(Level, u8)];

    /// The name of this message.
    fn name(&self) -> &'static str;

    /// The body as of an older version, if that can say it.
    fn write_older(&self, _version: u8) -> Option<Result<Vec<u8>, CodecError>> {
        None
    }

    /// Reads a body of an older version.
    fn read_older(version: u8, _body: &[u8]) -> Result<Self, CodecError> {
        Err(CodecError::Version { found: version, ours: newest::<Self>(Level::NEWEST) })
    }

    /// The golden bytes of its older versions, rising.
    #[cfg(test)]
    fn golden_of_before() -> &'static [(u8, &'static str)] {
        &[]
    }

    /// One of every message, for the golden bytes.
    #[cfg(test)]
    fn samples() -> Vec<Self>;
}

/// The version that is spoken at a level, 0 if the component is not there yet.
fn newest<C: Component>(level: Level) -> u8 {
    let spoken = C::VERSIONS.iter().take_while(|(since, _)| *since <= level);
    spoken.last().map_or(0, |(_, version)| *version)
}

/// The bytes of a message in the version that a cluster of this level speaks.
pub(super) fn write<C: Component>(
    id: u8,
    message: &C,
    level: Level,
) -> Result<Vec<u8>, CodecError> {
    let version = newest::<C>(level);
    if version == newest::<C>(Level::NEWEST) {
        return encode_body(&[id, version], message);
    }
    let body = Some(version).filter(|version| *version > 0).and_then(|v| message.write_older(v));
    let body = body.unwrap_or(Err(CodecError::Level(level.0)))?;
    Ok([&[id, version], &body[..]].concat())
}

/// Reads a body in a version that a build of this level reads: its own, or the one before.
pub(super) fn read<C: Component>(version: u8, body: &[u8], build: Level) -> Result<C, CodecError> {
    let ours = newest::<C>(build);
    if version > ours || version < newest::<C>(build.oldest_spoken()) || version == 0 {
        return Err(CodecError::Version { found: version, ours });
    }
    if version == newest::<C>(Level::NEWEST) {
        decode_body(body)
    } else {
        C::read_older(version, body)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Says more since the second version, and something new since the third.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Sample {
        Counted { count: u64 },
        Named(String),
    }

    impl Component for Sample {
        const NAME: &'static str = "sample";
        const LANE: Lane = Lane::Control;
        const VERSIONS: &'static [(Level, u8)] =
            &[(Level(0), 1), (Level::FIRST, 2), (Level(200), 3)];

        fn name(&self) -> &'static str {
            "sample"
        }

        fn write_older(&self, version: u8) -> Option<Result<Vec<u8>, CodecError>> {
            match self {
                Self::Counted { count } if version == 1 => Some(encode_body(&[], count)),
                _ => None,
            }
        }

        fn read_older(version: u8, body: &[u8]) -> Result<Self, CodecError> {
            match version {
                1 => Ok(Self::Counted { count: decode_body(body)? }),
                found => Err(CodecError::Version { found, ours: 2 }),
            }
        }

        fn samples() -> Vec<Self> {
            vec![]
        }
    }

    #[test]
    fn a_version_is_spoken_from_its_level_on_and_read_one_level_longer() {
        let counted = Sample::Counted { count: 7 };
        let [old, new] = [Level(0), Level::FIRST].map(|level| write(9, &counted, level).unwrap());
        assert_eq!((&old[..], new[..2].to_vec()), (&[9, 1, 7][..], vec![9, 2]));
        for build in [Level::FIRST, Level(2)] {
            assert_eq!(read::<Sample>(2, &new[2..], build), Ok(Sample::Counted { count: 7 }));
        }
        assert_eq!(read::<Sample>(1, &old[2..], Level(0)), Ok(Sample::Counted { count: 7 }));
        let too_old = CodecError::Version { found: 1, ours: 2 };
        assert_eq!(read::<Sample>(1, &old[2..], Level(2)), Err(too_old));
        let too_new = CodecError::Version { found: 2, ours: 1 };
        assert_eq!(read::<Sample>(2, &new[2..], Level(0)), Err(too_new));
        assert!(matches!(read::<Sample>(0, &[], Level::FIRST), Err(CodecError::Version { .. })));
        let named = Sample::Named("new".into());
        assert_eq!(write(9, &named, Level(0)), Err(CodecError::Level(0)), "not sayable then");
    }
}
