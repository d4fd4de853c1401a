# shellcheck shell=bash
# Installs the tools that a script of this repository needs and that this machine lacks. `run` and `test` source it:
#
#     source scripts/install-tools.sh
#     install_tools cc rust
#
# Tools: any key of `debian_packages` below; `rust` (cargo and rustc, at least `rust-version` of Cargo.toml); `clippy`; `rustfmt`.
# Installs nothing if all of them are present. Otherwise prints what it installs, before it does. Debian packages are installed
# with apt-get, as root or with sudo; Rust with rustup. Never changes the default toolchain of an existing rustup: the caller
# gets RUSTUP_TOOLCHAIN instead. Changes PATH and RUSTUP_TOOLCHAIN of the caller only if that is necessary to find Rust.

# The Debian packages that provide a command.
declare -A debian_packages=(
    [cc]="gcc libc6-dev"
    [c++]="g++"
    [python3]="python3"
    [openssl]="openssl"
    [script]="bsdutils"
    [valgrind]="valgrind"
)

# The oldest Rust that is tested.
rust_version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "${BASH_SOURCE[0]}")/../Cargo.toml")

# install_tools TOOL…: returns when all of them are there, and exits with an explanation if one cannot be installed.
install_tools() {
    local tool rust=() missing=() packages=()
    for tool; do
        case $tool in
        rust | clippy | rustfmt) rust+=("$tool") ;;
        *) command -v "$tool" >/dev/null || { missing+=("$tool") && read -ra packages <<<"${packages[*]} ${debian_packages[$tool]}"; } ;;
        esac
    done
    if ((${#packages[@]})); then
        echo "installing ${packages[*]} (for ${missing[*]}), with apt-get" >&2
        apt_install "${packages[@]}" || give_up "cannot install: ${packages[*]}"
    fi
    ((${#rust[@]} == 0)) || install_rust "${rust[@]}"
}

install_rust() {
    has_rust "$@" && return
    PATH="$HOME/.cargo/bin:$PATH"
    has_rust "$@" && return
    # An older default toolchain may stay as it is, if there is also a newer stable one.
    export RUSTUP_TOOLCHAIN=stable
    command -v rustup >/dev/null && has_rust "$@" && return

    local components=() tool
    for tool; do [ "$tool" = rust ] || components+=(--component "$tool"); done
    echo "installing Rust $rust_version or newer${components[*]:+ with ${*:2}}, with rustup" >&2
    if ! command -v rustup >/dev/null; then
        # Debian 13 has rustup. For older systems, the installer of rustup.rs provides it.
        apt_install ca-certificates rustup || {
            apt_install ca-certificates curl &&
                curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
                sh -s -- -y --no-modify-path --profile minimal --default-toolchain none
        } || give_up "cannot install rustup: see https://rustup.rs"
    fi
    rustup toolchain install stable --profile minimal "${components[@]}" || give_up "rustup cannot install stable Rust"
    rustup default >/dev/null 2>&1 || rustup default stable
    has_rust "$@" || give_up "expected Rust $rust_version or newer, found $(rustc --version)"
}

# has_rust TOOL…: returns whether a Rust that is new enough is on the PATH, with these components.
has_rust() {
    local tool found
    for tool; do
        case $tool in
        rust) found=$(cargo --version >/dev/null 2>&1 && rustc --version 2>/dev/null | cut -d' ' -f2) &&
            printf '%s\n%s\n' "$rust_version" "$found" | sort -CV || return 1 ;;
        clippy) cargo clippy --version >/dev/null 2>&1 || return 1 ;;
        rustfmt) cargo fmt --version >/dev/null 2>&1 || return 1 ;;
        esac
    done
}

apt_install() {
    command -v apt-get >/dev/null || return 1
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -q && "${as_root[@]}" apt-get install -qy --no-install-recommends "$@"
}

give_up() {
    echo "$*" >&2
    exit 1
}
