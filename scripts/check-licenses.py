#!/usr/bin/env python3
"""Checks the dependencies of the workspace against deny.toml: licences, sources, and banned crates.

    scripts/check-licenses.py

This is the part of `cargo deny check` that needs neither cargo-deny nor a network. It looks at the dependencies of this
platform only, because cargo has not downloaded the others.

Exit codes: 0 deny.toml allows every dependency; 1 it does not, and stderr names each; 2 the check was not possible.
"""

import json, pathlib, re, subprocess, sys, tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout


def is_allowed(expression, allowed):
    """Evaluates an SPDX expression. AND binds more tightly than OR; `A/B` is an old way to write `A OR B`."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def take(expected=None):
        if not tokens or (expected and tokens[0] != expected):
            raise ValueError(f"{expression!r} is not an SPDX expression")
        return tokens.pop(0)

    def either():
        result = both()
        while tokens[:1] == ["OR"]:
            take()
            # Not `or`: the right side must be read in any case.
            result |= both()
        return result

    def both():
        result = one()
        while tokens[:1] == ["AND"]:
            take()
            result &= one()
        return result

    def one():
        token = take()
        if token == "(":
            result = either()
            take(")")
            return result
        if token in (")", "AND", "OR", "WITH"):
            raise ValueError(f"{expression!r} is not an SPDX expression")
        # `X+` is X or a later version of it.
        token = token.removesuffix("+")
        if tokens[:1] == ["WITH"]:
            take()
            token += f" WITH {take()}"
        return token in allowed

    result = either()
    if tokens:
        raise ValueError(f"{expression!r} is not an SPDX expression")
    return result


def problems(package, policy):
    """Yields what deny.toml does not allow about a package."""
    name = package["name"]
    allowed = set(policy["licenses"]["allow"])
    for exception in policy["licenses"].get("exceptions", []):
        if exception["crate"] == name:
            allowed.update(exception["allow"])
    if not package["license"]:
        yield "expected a licence in its manifest, found none"
    elif not is_allowed(package["license"], allowed):
        yield f"deny.toml does not allow its licence: {package['license']}"

    # Crates of the workspace have no source.
    registries = {f"registry+{url}" for url in policy["sources"]["allow-registry"]}
    if package["source"] is not None and package["source"] not in registries:
        yield f"deny.toml does not allow its source: {package['source']}"

    for ban in policy["bans"]["deny"]:
        if ban["crate"] == name:
            yield f"deny.toml bans it: {ban['reason']}"


def main():
    policy = tomllib.loads((ROOT / "deny.toml").read_text())
    host = re.search(r"^host: (.*)$", output("rustc", "-vV"), re.MULTILINE)[1]
    metadata = json.loads(
        output("cargo", "metadata", "--offline", "--locked", "--format-version=1", "--filter-platform", host)
    )
    found = [
        f"{package['name']} {package['version']}: {problem}"
        for package in metadata["packages"]
        for problem in problems(package, policy)
    ]
    if found:
        sys.exit("\n".join(found))
    print(f"{len(metadata['packages'])} crates: deny.toml allows their licences and sources")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        print(f"the dependencies were not checked: {error}", file=sys.stderr)
        sys.exit(2)
