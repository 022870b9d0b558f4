//! The structures of libibverbs are laid out here as its header says, where there is a header to ask.

use std::io::Write;
use std::path::Path;
use std::process::Command;

const HEADER: &str = "/usr/include/infiniband/verbs.h";

#[test]
fn structures_are_laid_out_as_the_header_says() {
    if !Path::new(HEADER).exists() {
        // Past the harness, which shows nothing of tests that pass.
        writeln!(std::io::stderr(), "skipped: layout of libibverbs: no {HEADER} (package libibverbs-dev)")
            .expect("stderr");
        return;
    }
    let layout = ringtree::transport::verbs::layout();
    assert!(layout.len() > 40);
    let folder = std::env::temp_dir().join(format!("ringtree-abi-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let (source, program) = (folder.join("layout.c"), folder.join("layout"));
    let lines: String = layout.iter().map(|(what, _)| format!("printf(\"%zu\\n\", {what});\n")).collect();
    let includes = "#include <infiniband/verbs.h>\n#include <stddef.h>\n#include <stdio.h>\n";
    std::fs::write(&source, format!("{includes}int main(void) {{\n{lines}return 0;\n}}\n")).expect("a file");
    let built = Command::new("cc").arg("-o").args([&program, &source]).output().expect("a C compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let said = Command::new(&program).output().expect("the program").stdout;
    let said: Vec<usize> =
        String::from_utf8(said).expect("numbers").lines().map(|line| line.parse().expect("a number")).collect();
    std::fs::remove_dir_all(&folder).expect("a folder of ours");
    let ours: Vec<usize> = layout.iter().map(|(_, value)| *value).collect();
    for ((what, ours), theirs) in layout.iter().map(|(what, _)| what).zip(ours).zip(said) {
        assert_eq!(ours, theirs, "{what}");
    }
}
