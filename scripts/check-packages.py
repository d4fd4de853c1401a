#!/usr/bin/env python3
"""Packages the crates that are published, and builds them from their packages.

    scripts/check-packages.py

Checks for every crate of the workspace that is not `publish = false`: the manifest has all that crates.io shows, the
package holds a README, both licences and the sources, and the unpacked packages compile together, without the rest of
the repository. It needs no network.

`cargo package` could verify the packages itself. But it unpacks those that depend on each other into cargo's cache, where
it takes a version for unchangeable: it would build the sources of the first run forever.

Exit codes: 0 all packages are complete and compile; 1 they do not.
"""

import json, pathlib, shutil, subprocess, sys, tarfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
NEEDED = ["Cargo.toml", "Cargo.lock", "README.md", "LICENSE-APACHE", "LICENSE-MIT", "src/lib.rs"]
SHOWN = ["description", "license", "repository", "readme", "rust_version", "keywords", "categories"]


def run(*command, directory=ROOT, **options):
    return subprocess.run(command, cwd=directory, check=True, text=True, **options)


def problems(package, archive):
    """Yields what is wrong with a package."""
    for field in SHOWN:
        if not package[field]:
            yield f"expected `{field}` in Cargo.toml, found none"
    if len(package["keywords"]) > 5:
        yield f"expected at most 5 keywords, found {len(package['keywords'])}"
    with tarfile.open(archive) as tar:
        files = {member.name.split("/", 1)[1]: member for member in tar}
    for name in NEEDED:
        if name not in files:
            yield f"expected {name} in the package, found none"
        elif not files[name].isfile() or files[name].size == 0:
            yield f"expected {name} to be a file with content"


def main():
    metadata = json.loads(run("cargo", "metadata", "--format-version=1", "--no-deps", stdout=subprocess.PIPE).stdout)
    published = [package for package in metadata["packages"] if package["publish"] is None]
    names = [package["name"] for package in published]
    target = pathlib.Path(metadata["target_directory"])

    # Uncommitted changes are packaged too: this checks what is there, before a commit.
    selection = [argument for name in names for argument in ("-p", name)]
    run("cargo", "package", "--quiet", "--offline", "--locked", "--allow-dirty", "--no-verify", *selection)

    unpacked = target / "package" / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    failed = False
    manifest = '[workspace]\nresolver = "3"\nmembers = ["*"]\n\n[patch.crates-io]\n'
    for package in published:
        directory = f"{package['name']}-{package['version']}"
        archive = target / "package" / f"{directory}.crate"
        for problem in problems(package, archive):
            print(f"{package['name']}: {problem}", file=sys.stderr)
            failed = True
        # Not with the archive's times, which are always the same: cargo would not notice a change.
        run("tar", "--extract", "--touch", "--file", archive, "--directory", unpacked)
        manifest += f'{package["name"]} = {{ path = "{directory}" }}\n'
    if failed:
        sys.exit(1)

    # The workspace's own setting, so that the dependencies that its tests have built are used again.
    manifest += '\n[profile.dev]\ndebug = "line-tables-only"\n'
    (unpacked / "Cargo.toml").write_text(manifest)
    shutil.copy(ROOT / "Cargo.lock", unpacked)
    # One by one: together, each would also get the features of dependencies that only another one asks for.
    for name in names:
        run("cargo", "check", "--quiet", "--offline", "-p", name, "--target-dir", target, directory=unpacked)
    print(f"{', '.join(names)}: complete, and they compile")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(map(str, error.cmd))}: failed, see above", file=sys.stderr)
        sys.exit(1)
