//! Build profile of this binary, for the head of a report.

use rush::BuildProfile;

/// Name of the profile, from `build.rs`.
const NAME: &str = env!("ONRUSH_BUILD_PROFILE");

pub fn build_profile() -> BuildProfile {
    BuildProfile { name: NAME.to_owned(), lto: lto(NAME).map(str::to_owned) }
}

/// Link-time optimization of a profile in the workspace's `Cargo.toml`. A build cannot ask Cargo for this setting.
fn lto(profile: &str) -> Option<&'static str> {
    (profile == "dist").then_some("thin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_has_the_lto_of_the_manifest() {
        let manifest = include_str!("../../../../../Cargo.toml").parse::<toml::Table>().expect("a manifest");
        let profiles = manifest["profile"].as_table().expect("a table");
        assert!(profiles.contains_key("dist"));
        for (name, settings) in profiles {
            assert_eq!(settings.get("lto").and_then(toml::Value::as_str), lto(name), "{name}");
        }
    }

    #[test]
    fn the_name_is_that_of_the_profile_folder() {
        let test = std::env::current_exe().expect("a test has a file");
        let folder = test.ancestors().nth(2).and_then(std::path::Path::file_name).expect("<profile>/deps/<test>");
        assert_eq!(folder, NAME);
        assert_eq!(build_profile().name, NAME);
    }
}
