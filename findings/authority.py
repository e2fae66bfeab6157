"""A DNS server for the scripts here: authority.py ADDRESS PORT FILE [ZONE].

With a zone, names in it have an address that lasts a second, 10.0.0.1 or the one that FILE.address says, and
others are refused; without one, all names but those below `test` have 10.0.0.9, and these do not exist.
Silent while FILE.silent exists. The names asked for go to FILE."""
import os, socket, struct, sys

address, port, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
zone = sys.argv[4] if len(sys.argv) > 4 else None


def reply(question):
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode().lower())
        at += 1 + question[at]
    kind, name = struct.unpack(">H", question[at + 1 : at + 3])[0], ".".join(labels)
    with open(file, "a") as log:
        log.write(name + "\n")
    known = name == zone or name.endswith("." + zone) if zone else not name.endswith("test")
    code = 0 if known else 5 if zone else 3
    answers = b""
    if known and kind == 1:
        where = open(file + ".address").read().strip() if os.path.exists(file + ".address") else "10.0.0.1"
        where = where if zone else "10.0.0.9"
        answers = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1 if zone else 60, 4) + socket.inet_aton(where)
    return question[:2] + struct.pack(">HHHHH", 0x8580 | code, 1, bool(answers), 0, 0) + question[12 : at + 5] + answers


with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind((address, port))
    while True:
        question, client = server.recvfrom(4096)
        answer = reply(question)
        if not os.path.exists(file + ".silent"):
            server.sendto(answer, client)
