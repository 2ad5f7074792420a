//! Sets of cores, as the kernel writes them: lists (`0-3,8`) and masks (`00000000,0000010f`).

use std::collections::BTreeSet;
use std::fmt;

use serde::{Serialize, Serializer};

/// Numbers of cores. Written, and in JSON, as the kernel's list: `0-3,8`; the empty set is `none` in words and `""` in
/// JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CoreSet(BTreeSet<u32>);

impl CoreSet {
    /// Reads the kernel's list; an empty one is the empty set. `None` for anything else.
    pub fn from_list(list: &str) -> Option<Self> {
        let mut cores = BTreeSet::new();
        for part in list.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            // More than any kernel can have is no list of cores.
            if first > last || last >= CORES_MAX {
                return None;
            }
            cores.extend(first..=last);
        }
        Some(Self(cores))
    }

    /// Reads a mask: groups of 32 bits in hexadecimal, the highest first. `None` for anything else.
    pub fn from_mask(mask: &str) -> Option<Self> {
        let mut cores = BTreeSet::new();
        let groups: Vec<&str> = mask.trim().split(',').collect();
        if groups.len() > CORES_MAX as usize / 32 {
            return None;
        }
        for (group, base) in groups.iter().rev().zip((0..).step_by(32)) {
            let bits = u32::from_str_radix(group, 16).ok()?;
            cores.extend(
                (0..32)
                    .filter(|bit| bits >> bit & 1 == 1)
                    .map(|bit| base + bit),
            );
        }
        Some(Self(cores))
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest.
    pub fn first(&self) -> Option<u32> {
        self.0.first().copied()
    }

    /// Whether all of these are in `others`.
    pub fn is_subset(&self, others: &Self) -> bool {
        self.0.is_subset(&others.0)
    }

    /// Those that are in both.
    pub fn and(&self, others: &Self) -> Self {
        Self(&self.0 & &others.0)
    }

    /// As files like `rps_cpus` take it.
    pub fn to_mask(&self) -> String {
        let groups = self.0.last().map_or(1, |last| last / 32 + 1);
        let group = |index: u32| {
            let bits = self.iter().filter(|core| core / 32 == index);
            bits.fold(0_u32, |mask, core| mask | 1 << (core % 32))
        };
        let mut words = (0..groups).rev().map(group);
        let highest = words
            .next()
            .map_or_else(String::new, |bits| format!("{bits:x}"));
        words.fold(highest, |mask, bits| format!("{mask},{bits:08x}"))
    }
}

impl Extend<u32> for CoreSet {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, cores: I) {
        self.0.extend(cores);
    }
}

impl FromIterator<u32> for CoreSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cores: I) -> Self {
        Self(cores.into_iter().collect())
    }
}

impl fmt::Display for CoreSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut cores = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cores.next() {
            let mut last = first;
            while let Some(next) = cores.next_if_eq(&(last + 1)) {
                last = next;
            }
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl Serialize for CoreSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_empty() {
            serializer.serialize_str("")
        } else {
            serializer.collect_str(self)
        }
    }
}

/// What the largest kernels are built for (`CONFIG_NR_CPUS`).
pub(crate) const CORES_MAX: u32 = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_may_have_ranges_and_may_be_empty() {
        let list = |text| CoreSet::from_list(text).map(|cores| cores.to_string());
        assert_eq!(list("0-2,8\n").as_deref(), Some("0-2,8"));
        assert_eq!(list("3").as_deref(), Some("3"));
        assert_eq!(list("\n").as_deref(), Some("none"));
        for wrong in ["x", "1-", "2-1", "0-99999999", "8192", "-1"] {
            assert_eq!(list(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_mask_has_the_highest_cores_first() {
        let mask = |text| CoreSet::from_mask(text).map(|cores| cores.to_string());
        assert_eq!(mask("00000001,80000003").as_deref(), Some("0-1,31-32"));
        assert_eq!(mask("0").as_deref(), Some("none"));
        for wrong in ["", "g", "100000000", "1,,1"] {
            assert_eq!(mask(wrong), None, "{wrong}");
        }
        assert_eq!(mask(&"1,".repeat(1000)), None);
    }

    #[test]
    fn in_json_it_is_the_list() {
        let json = |list| serde_json::to_string(&CoreSet::from_list(list).unwrap()).unwrap();
        assert_eq!(json("0-1,4"), "\"0-1,4\"");
        assert_eq!(json(""), "\"\"");
    }

    proptest! {
        #[test]
        fn list_and_mask_are_read_back_as_they_were_written(
            cores in proptest::collection::btree_set(0..CORES_MAX, 1..40),
        ) {
            let cores = CoreSet(cores);
            prop_assert_eq!(CoreSet::from_list(&cores.to_string()), Some(cores.clone()));
            prop_assert_eq!(CoreSet::from_mask(&cores.to_mask()), Some(cores));
        }
    }
}
