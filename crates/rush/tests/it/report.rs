use crate::stub_server::{Faults, directory, options, start};
use rush::{BuildProfile, ClaimsScenario, Scenario};
use serde_json::{Value, json};

#[test]
fn table_page_and_json_name_the_build() {
    for (lto, line) in [(Some("thin"), "dist build, thin LTO"), (None, "dist build, without LTO")] {
        let (server, directory) = (start(Faults::default()), directory("report-build", 10));
        let mut options = options(&server, Scenario::Claims(ClaimsScenario::default()), &directory);
        options.profile = Some(BuildProfile { name: "dist".to_owned(), lto: lto.map(str::to_owned) });
        let mut table = Vec::new();
        rush::run(&options, &mut table).unwrap();
        let head = String::from_utf8(table).unwrap();
        assert_eq!(head.lines().nth(2), Some(line), "{head}");
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
        assert!(read("report.html").contains(line));
        let report: Value = serde_json::from_str(&read("report.json")).unwrap();
        assert_eq!(report["profile"], json!({"name": "dist", "lto": lto}));
    }
}
