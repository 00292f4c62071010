//! What the tests of several modules need.

use warpmark_record::{DeviceKind, DeviceSpec, Field};

/// A device of that kind of which nothing is known.
pub(crate) fn device_spec(kind: DeviceKind) -> DeviceSpec {
    DeviceSpec {
        kind,
        index: 0,
        name: "test".to_owned(),
        slug: "test".to_owned(),
        memory: Field::absent("test"),
        memory_bandwidth: Field::absent("test"),
        last_level_cache: Field::absent("test"),
        gpu: None,
        cpu: None,
    }
}
