//! What the README says about the broker is what the broker does.

use ottla_tests::place;

const START: &str = "<!-- served apis: compared with the broker by a test -->\n";
const END: &str = "<!-- end of served apis -->";

fn table() -> String {
    let mut table = String::from("| key | API | versions |\n|---|---|---|\n");
    for api in ottla_broker::served_apis() {
        let note = if api.advertised_min_version < api.min_version {
            format!(
                " (announced from {}: older clients compress only then)",
                api.advertised_min_version
            )
        } else {
            String::new()
        };
        table += &format!(
            "| {} | {} | {}-{}{note} |\n",
            api.key.code(),
            api.key.name(),
            api.min_version,
            api.max_version
        );
    }
    table
}

#[test]
fn the_readme_lists_what_the_broker_serves() {
    let path = place::repository().join("README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(START).expect("the table's start is marked");
    let (listed, after) = rest.split_once(END).expect("the table's end is marked");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{START}{}{END}{after}", table())).unwrap();
        return;
    }
    assert_eq!(listed, table(), "run with UPDATE=1 to write the table anew");
}
