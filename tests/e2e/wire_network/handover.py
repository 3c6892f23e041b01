"""A service manager as systemd is one to a gate: it is told READY=1, keeps a descriptor, and starts the next process
of the service with that as descriptor 3. Meanwhile a workload goes on asking. Prints what came of it, as JSON."""

import json, os, signal, socket, subprocess, sys, threading, time

namespace, program, policy, log, state, ca, folder = sys.argv[1:]
# The number that services find kept descriptors at, before anything else gets it.
os.dup2(os.open("/dev/null", os.O_RDONLY), 3)
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.bind(folder + "/notify")
manager.settimeout(30)
told, kept = [], []


def heard(word):
    """Reads until the gate says this; keeps what it wants kept."""
    while True:
        text, descriptors, _, _ = socket.recv_fds(manager, 4096, 4)
        lines = text.decode().splitlines()
        told.append(lines)
        if "FDSTORE=1" in lines:
            kept[:] = descriptors
        if word in lines:
            return


def start():
    environment = dict(os.environ, NOTIFY_SOCKET=folder + "/notify")
    passed = ()
    if kept:
        os.dup2(kept[0], 3)
        os.set_inheritable(3, True)
        passed = (3,)
        environment |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "sluicegate"}
    line = [program, "attach", "/run/netns/" + namespace, "--name", "box", "--policy", policy, "--log", log,
            "--state", state, "--ca-file", ca, "--quiet"]
    gate = subprocess.Popen(line, env=environment, pass_fds=passed)
    heard("READY=1")
    return gate


def curl_line(path, limit="20"):
    return ["ip", "netns", "exec", namespace, "curl", "-sSN", "--max-time", limit, "--cacert", ca,
            "--resolve", "api.test:443:198.51.100.7", "https://api.test" + path]


def curl(path, limit="20"):
    done = subprocess.run(curl_line(path, limit), capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else f"{done.returncode}: {done.stderr}"


def authority():
    with open(ca) as file:
        return file.read()


found = {}
gate = start()
first = authority()
found["before"] = curl("/a")
# Somebody asks all the time, on new connections, and somebody else is in the midst of a response.
answers, ended = [], threading.Event()


def ask():
    while not ended.is_set():
        answers.append(curl("/again"))


def wait_for_answers(count):
    deadline = time.monotonic() + 30
    while len(answers) < count and time.monotonic() < deadline:
        time.sleep(0.02)


asking = threading.Thread(target=ask, daemon=True)
asking.start()
wait_for_answers(5)
streaming = subprocess.Popen(curl_line("/slow"), stdout=subprocess.PIPE, text=True)
begun = streaming.stdout.read(6)
gate.send_signal(signal.SIGTERM)
found["exit"] = gate.wait(30)
with open(policy, "a") as file:
    file.write('\n[[rules]]\nname = "new"\nhost = "api.test"\npaths = ["/new"]\nrespond = { status = 200, body = "by the new policy" }\n'
               '[[rules]]\nname = "rest"\nhost = "api.test"\n')
gate = start()
found["slow"] = begun + streaming.communicate()[0]
found["same authority"] = authority() == first
found["new policy"] = curl("/new")
gate.kill()
gate.wait()
found["nobody serves"] = curl("/a", "1")[:3]
gate = start()
found["after a kill"] = curl("/a")
found["still the same"] = authority() == first
wait_for_answers(len(answers) + 3)
ended.set()
asking.join()
# The one that was asking when the gate was killed may have been cut.
found["others"] = sorted(set(answers), key=answers.count)[-1]
found["failed"] = len([answer for answer in answers if answer != "ok"])
found["asked"] = len(answers) >= 8
gate.terminate()
gate.wait(30)
found["told"] = told
print(json.dumps(found))
