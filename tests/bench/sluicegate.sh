# Sluicegate as a contestant of a side-by-side benchmark of intercepting proxies. Sourced by bash.
#
# The harness gives the client a namespace with a veth to the origin. The gate's way is another: the
# client's namespace keeps only `lo`, is attached, and the gate dials from a namespace of its own,
# with a veth of its own to the origin. Every request is judged, resolved and logged, as always.
TITLE="sluicegate"; KIND=peer; MODE=capture; H2=1; MINTS=1
CA="$PB_STATE/ca.pem"
BIN="$PB_BIN/sluicegate"

install() {
  cargo build --release --manifest-path "$SLUICEGATE/Cargo.toml" &&
    cp "$SLUICEGATE/target/release/sluicegate" "$SLUICEGATE/target/release/sluicegate-netns" "$PB_BIN/"
}
version() { "$BIN" --version; }
size_of() { printf '%s\n' "$BIN" "$BIN-netns"; }

prepare() {
  rm -f "$CA"
  cat > "$PB_STATE/sluicegate.toml" <<DOCUMENT
version = 1
internet = true
[upstream]
extra_ca = ["$PB_ORIGIN_CA"]
dns = ["$PB_DNS"]
allow_ranges = ["10.98.0.0/16"]
DOCUMENT
}

# Runs inside the client's namespace, and leaves it for one of its own.
start() {
  client=$(ip netns identify $$)
  for link in $(ip -o link show type veth | awk -F'[ :@]+' '{ print $2 }'); do ip link delete "$link"; done
  export client net="10.97.${client##*[!0-9]}"
  exec unshare --net bash -c '
    ip link set lo up
    ip link add gate type veth peer name "gate-$client" netns pb-origin
    ip addr add "$net.2/24" dev gate && ip link set gate up && ip route add default via "$net.1"
    ip -n pb-origin addr add "$net.1/24" dev "gate-$client" && ip -n pb-origin link set "gate-$client" up
    exec "$BIN" attach "/run/netns/$client" --policy "$PB_STATE/sluicegate.toml" \
      --log "$PB_STATE/audit.jsonl" --ca-file "$CA" --name bench --quiet'
}
export BIN CA
