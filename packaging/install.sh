#!/bin/sh
# Installs a release archive of Sluicegate below a prefix, once its checksum is what it should be.
set -eu

usage() {
    cat <<'END'
usage: install.sh [--prefix FOLDER] [--sha256 CHECKSUM] ARCHIVE

ARCHIVE is a file, or the URL (https:// or file://) of one, called sluicegate-VERSION-x86_64-linux.tar.gz.

    --prefix FOLDER      install below this folder; /usr/local if not named
    --sha256 CHECKSUM    what the archive has to have. Without it, the file ARCHIVE.sha256 is taken from the
                         same place: that tells a damaged archive, and not one that was put there by
                         somebody else

Nothing is installed where the checksum is another, and what is there is replaced whole.
END
}

fail() {
    echo "install: $1" >&2
    exit "${2:-1}"
}

prefix=/usr/local
checksum=
archive=
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help)
            usage
            exit 0
            ;;
        --prefix | --sha256)
            [ $# -ge 2 ] || fail "$1 needs a value" 64
            if [ "$1" = --prefix ]; then prefix=$2; else checksum=$2; fi
            shift 2
            ;;
        -*) fail "$1 is not known; see --help" 64 ;;
        *)
            [ -z "$archive" ] || fail "one archive at a time; see --help" 64
            archive=$1
            shift
            ;;
    esac
done
[ -n "$archive" ] || fail "which archive? see --help" 64
case "$(uname -sm)" in
    "Linux x86_64") ;;
    *) fail "releases are for Linux on x86-64, and this is $(uname -sm): build it from its sources" 69 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Fetches $1 to the file $2.
fetch() {
    case "$1" in
        https://* | file://*)
            curl --fail --silent --show-error --location --proto '=https,file' --proto-redir '=https' \
                --output "$2" "$1" || fail "cannot fetch $1" 69
            ;;
        *://*) fail "$1 is neither https:// nor file://" 64 ;;
        *) cp -- "$1" "$2" || fail "cannot read $1" 66 ;;
    esac
}

fetch "$archive" "$work/archive"
if [ -z "$checksum" ]; then
    fetch "$archive.sha256" "$work/sha256"
    checksum=$(cut -d ' ' -f 1 "$work/sha256")
fi
case "$checksum" in
    *[!0-9a-f]* | "") fail "$checksum is no SHA-256 checksum: 64 digits, 0 to 9 and a to f" 64 ;;
esac
is=$(sha256sum "$work/archive" | cut -d ' ' -f 1)
[ "$is" = "$checksum" ] || fail "$archive is not what it should be: its checksum is $is, and not $checksum"

mkdir "$work/unpacked"
tar -xzf "$work/archive" -C "$work/unpacked" --strip-components=1 --no-same-owner
for name in sluicegate sluicegate-netns; do
    "$work/unpacked/bin/$name" --version >"$work/version" || fail "$name does not run here" 69
done

mkdir -p "$prefix"
prefix=$(cd "$prefix" && pwd)
# Each file beside its place, and then over the one that is there: a gate that runs keeps its own.
cd "$work/unpacked"
find . -type f | while read -r file; do
    mkdir -p "$prefix/$(dirname "$file")"
    cp -p "$file" "$prefix/$file.new"
    mv "$prefix/$file.new" "$prefix/$file"
done
echo "$("$prefix/bin/sluicegate" --version) is in $prefix"
