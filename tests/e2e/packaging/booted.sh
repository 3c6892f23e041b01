#!/bin/sh
# In a machine that systemd has started: installs the package named by $1, has a gate of its unit serve a named
# namespace, and prints what the workload sees, a line for each.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

ca=/run/sluicegate/jail.pem
# Over TLS, so that it tells the authority too.
ask() { ip netns exec jail curl -sS --max-time 30 --cacert "$ca" "$1" 2>/dev/null || echo "failed: $?"; }
authority() { sha256sum <"$ca"; }
same() { [ "$(authority)" = "$1" ] && echo yes || echo no; }

dpkg --install "$1" >/dev/null
ip link set lo up
ip netns add jail
cat >/run/origin.py <<'END'
import http.server, time

class Origin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"begun ")
        self.wfile.flush()
        open("/run/asked", "w").close()
        time.sleep(2)
        self.wfile.write(b"ended")

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Origin).serve_forever()
END
systemd-run --quiet --unit origin python3 /run/origin.py
cat >/etc/sluicegate/jail.toml <<'END'
version = 1
allowed_hosts = ["http://origin.test", "https://fixed.test"]
[upstream]
resolve = { "origin.test:80" = "127.0.0.1:8080" }
[[rules]]
name = "fixed"
host = "fixed.test"
respond = { status = 200, body = "fixed" }
END
until curl -sS --max-time 5 -o /dev/null http://127.0.0.1:8080/ 2>/dev/null; do sleep 0.1; done
rm /run/asked

systemctl start sluicegate@jail
echo "started: $(ask https://fixed.test/)"
first=$(authority)

ask http://origin.test/ >/run/slow &
slow=$!
until [ -e /run/asked ]; do sleep 0.05; done
systemctl restart sluicegate@jail
wait "$slow"
echo "in flight at the restart: $(cat /run/slow)"
echo "restarted: $(ask https://fixed.test/), same authority: $(same "$first")"

old=$(systemctl show --property MainPID --value sluicegate@jail)
kill -KILL "$old"
until [ "$(systemctl show --property MainPID --value sluicegate@jail)" != "$old" ] &&
    systemctl is-active --quiet sluicegate@jail; do sleep 0.1; done
echo "killed: $(ask https://fixed.test/), same authority: $(same "$first")"

systemctl stop sluicegate@jail
echo "stopped: $(ip netns exec jail curl -sS --max-time 2 http://192.0.2.1/ 2>/dev/null || echo failed)"
systemctl start sluicegate@jail
echo "started again: $(ask https://fixed.test/), same authority: $(same "$first")"

echo "version = " >/etc/sluicegate/jail.toml
systemctl restart sluicegate@jail 2>/dev/null || true
echo "with a broken policy: $(systemctl is-active sluicegate@jail || true)," \
    "$(ip netns exec jail curl -sS --max-time 2 http://192.0.2.1/ 2>/dev/null || echo failed)"

# A container's process, with files of its own, that is made to trust its gate.
mkdir -p /home/worker
chown 65534:65534 /home/worker
install -D -m 644 -t /etc/systemd/system/sluicegate@cell.service.d /usr/share/sluicegate/trust.conf
systemctl daemon-reload
systemd-run --quiet --unit cell unshare --net --mount sleep infinity
until cell=$(systemctl show --property MainPID --value cell) && grep -q sleep "/proc/$cell/comm"; do sleep 0.1; done
in_cell() { nsenter --target "$cell" --net --mount "$@"; }
echo "TARGET=pid:$cell" >/etc/sluicegate/cell.env
cat >/etc/sluicegate/cell.toml <<'END'
version = 1
[[rules]]
name = "fixed"
host = "fixed.test"
respond = { status = 200, body = "fixed" }
END
bundle=/etc/ssl/certs/ca-certificates.crt
own=$(in_cell grep -c BEGIN "$bundle")
# What it trusts: by the system's bundle, and how many authorities were added to that; and whether NSS is told.
trusted() {
    fixed=$(in_cell curl -sS --max-time 30 https://fixed.test/ 2>/dev/null || echo "failed: $?")
    lists=$(in_cell sh -c 'ls /root/.pki/nssdb/pkcs11.txt /home/worker/.pki/nssdb/pkcs11.txt 2>/dev/null | wc -l')
    echo "$fixed, $(($(in_cell grep -c BEGIN "$bundle") - own)) added, $lists lists"
}
authority() { in_cell tail -n 5 "$bundle" | sha256sum; }
systemctl start sluicegate@cell
echo "trusting: $(trusted)"
first=$(authority)
systemctl restart sluicegate@cell
echo "restarted: $(trusted), same authority: $(same "$first")"
old=$(systemctl show --property MainPID --value sluicegate@cell)
kill -KILL "$old"
until [ "$(systemctl show --property MainPID --value sluicegate@cell)" != "$old" ] &&
    systemctl is-active --quiet sluicegate@cell; do sleep 0.1; done
echo "killed: $(trusted), same authority: $(same "$first")"
systemctl stop sluicegate@cell
echo "stopped: $(in_cell grep -c sluicegate /proc/self/mounts || true) mounted"
systemctl start sluicegate@cell
echo "started again: $(trusted), same authority: $(same "$first")"
systemctl stop sluicegate@cell
dpkg --remove sluicegate >/dev/null
echo "removed: $(command -v sluicegate || echo gone)"
