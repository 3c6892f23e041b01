# What the scripts that make packages share; read by them with `.`, in the root of the repository.
# shellcheck shell=bash

# The time that stands in packages: that of the last commit, unless SOURCE_DATE_EPOCH says another
# (https://reproducible-builds.org/specs/source-date-epoch/).
if [[ -z ${SOURCE_DATE_EPOCH-} ]]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || {
        echo "${0##*/}: no commit to take the time from: set SOURCE_DATE_EPOCH" >&2
        exit 64
    }
fi
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C

# The version of the workspace.
version() {
    sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"$/\1/p' Cargo.toml
}

# The folder $1, which has to have both programs, as an absolute path.
programs_of() {
    local name
    for name in sluicegate sluicegate-netns; do
        if [[ ! -x $1/$name ]]; then
            echo "${0##*/}: $1/$name is missing: scripts/release builds both programs" >&2
            exit 69
        fi
    done
    (cd "$1" && pwd)
}

# Gives everything in folder $1 the time and the modes of a package.
settle() {
    find "$1" -type d -exec chmod 755 {} +
    find "$1" -type f -perm /111 -exec chmod 755 {} +
    find "$1" -type f ! -perm /111 -exec chmod 644 {} +
    find "$1" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
}

# Writes folder $2 of folder $1 as a tar archive to standard output: the same files, the same bytes.
archive() {
    tar --create --directory "$1" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --format=gnu "$2"
}
