#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes four long texts of different kinds from four Debian packages, the same bytes everywhere.

usage: texts.py FOLDER [NAME ...] [--cache FOLDER] [--strict]
       texts.py --self-test

Writes FOLDER/NAME.txt for prose, code, licence and dialogue (or those named): UTF-8, at most 96,000
characters, 13,000 tokens or more. Nothing is installed. A package is fetched by `apt-get download`,
or, where apt does not have that version, from a Debian mirror; it is checked by its SHA-256, and so
is what was made of it. With --strict a text that differs is an error, otherwise a warning.
"""
import argparse
import hashlib
import html
import io
import lzma
import os
import re
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import zlib

CHARACTERS = 96_000
MIRRORS = (
    "http://deb.debian.org/debian",
    "https://snapshot.debian.org/archive/debian/20250520T000000Z",
)


def say(text):
    print(f"texts.py: {text}", file=sys.stderr)


def die(text):
    say(text)
    sys.exit(1)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Package:
    """A Debian package: its files by path, read without unpacking it to disk."""

    def __init__(self, name, version, source, digest):
        self.name, self.version, self.source, self.digest = name, version, source, digest
        self.file = f"{name}_{version.rpartition(':')[2]}_all.deb"

    def urls(self):
        folder = self.source[:4] if self.source.startswith("lib") else self.source[0]
        return [f"{mirror}/pool/main/{folder}/{self.source}/{self.file}" for mirror in MIRRORS]

    def by_apt(self, cache):
        """Asks apt, which knows the mirrors of this machine; False if it has no such version."""
        command = ["apt-get", "-qq", "download", f"{self.name}={self.version}"]
        try:
            done = subprocess.run(command, cwd=cache, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, check=False, timeout=300)
        except (OSError, subprocess.TimeoutExpired):
            return False
        # apt writes the epoch of a version into the name of the file.
        fetched = f"{self.name}_{self.version.replace(':', '%3a')}_all.deb"
        if done.returncode == 0 and os.path.exists(os.path.join(cache, fetched)):
            os.replace(os.path.join(cache, fetched), os.path.join(cache, self.file))
            return True
        return False

    def by_url(self, cache):
        reasons = []
        for url in self.urls():
            try:
                with urllib.request.urlopen(url, timeout=120) as answer:
                    data = answer.read()
            except (OSError, urllib.error.URLError) as error:
                reasons.append(f"  {url}: {error}")
                continue
            with open(os.path.join(cache, self.file), "wb") as out:
                out.write(data)
            return
        die(f"cannot fetch {self.name} {self.version}: apt-get has no such version, and\n"
            + "\n".join(reasons) + f"\n  Put {self.file} into {cache} to go on.")

    def read(self, cache):
        """The package's bytes, from the cache if they are there and right."""
        path = os.path.join(cache, self.file)
        for fetch in (lambda: None, lambda: self.by_apt(cache), lambda: self.by_url(cache)):
            fetch()
            if os.path.exists(path):
                with open(path, "rb") as file:
                    data = file.read()
                if sha256(data) == self.digest:
                    return data
        die(f"{path}: its SHA-256 is {sha256(data)}, want {self.digest}: "
            f"not {self.name} {self.version} as Debian 12 has it")

    def files(self, cache):
        return files_of_deb(self.read(cache))


def files_of_deb(data):
    """Regular files of a .deb: an `ar` archive with a data.tar.xz in it."""
    if data[:8] != b"!<arch>\n":
        raise ValueError("not a Debian package")
    at = 8
    while at + 60 <= len(data):
        name = data[at:at + 16].decode("ascii").rstrip().rstrip("/")
        size = int(data[at + 48:at + 58])
        if name == "data.tar.xz":
            tar = lzma.decompress(data[at + 60:at + 60 + size])
            with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
                return {member.name.removeprefix("./"): archive.extractfile(member).read()
                        for member in archive if member.isfile()}
        at += 60 + size + size % 2
    raise ValueError("no data.tar.xz in the Debian package")


def within(text, characters=CHARACTERS):
    """The start of a text, up to the last end of a line that fits."""
    text = text.strip() + "\n"
    if len(text) > characters:
        text = text[:text.rindex("\n", 0, characters) + 1]
    return text


def unwrapped(lines):
    """Paragraphs, a line each, of lines that empty ones part."""
    paragraphs = "\n".join(line.rstrip() for line in lines).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())


def r_strings(vector):
    """The strings of a character vector in R's XDR serialisation, without its attributes."""
    if vector[:2] != b"X\n" or vector[2:6] != b"\0\0\0\3":
        raise ValueError("not an R object in XDR version 3")

    def number(at):
        return int.from_bytes(vector[at:at + 4], "big", signed=True)

    at = 18 + number(14)  # format, three versions, the name of the encoding
    if number(at) & 0xFF != 16:
        raise ValueError("not a character vector")
    strings = []
    count, at = number(at + 4), at + 8
    for _ in range(count):
        size = number(at + 4)
        at += 8
        if size < 0:  # NA
            strings.append("")
            continue
        strings.append(vector[at:at + size].decode("utf-8"))
        at += size
    return strings


def r_objects(database):
    """The objects of an R lazy-load database: sizes of four bytes, each before a zlib stream."""
    while database:
        stream = zlib.decompressobj()
        yield stream.decompress(database[4:])
        database = stream.unused_data


def prose(files):
    """Jane Austen: Northanger Abbey, from its first chapter on."""
    for vector in r_objects(files["usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"]):
        lines = r_strings(vector)
        if lines[0] == "NORTHANGER ABBEY":
            return within(unwrapped(lines[lines.index("CHAPTER 1"):]))
    raise ValueError("no such novel")


def code(files):
    """C++ with templates: pybind11.h."""
    return within(files["usr/include/pybind11/pybind11.h"].decode("utf-8"))


LICENCES = ("GFDL_1_3", "Mozilla_2_0", "GPL_2", "Apache_2_0", "LGPL_2_1")


def licence(files):
    """Whole licences, one after the other."""
    modules = [files[f"usr/share/perl5/Software/License/{name}.pm"] for name in LICENCES]
    texts = [module.decode("utf-8").partition("\n__LICENSE__\n")[2].partition("\n__")[0].strip("\n")
             for module in modules]
    return within("\n\n\n".join(texts))


def dialogue(files):
    """What the characters of a campaign of The Battle for Wesnoth say to each other."""
    folder = "usr/share/games/wesnoth/1.16/data/campaigns/Delfadors_Memoirs/scenarios/"
    scenes = [dialogue_of(files[path].decode("utf-8"))
              for path in sorted(files) if path.startswith(folder) and path.endswith(".cfg")]
    return within("\n\n\n".join(scene for scene in scenes if scene))


STRING = r'_?\s*"((?:[^"]|"")*)"'


def dialogue_of(scenario):
    """A scenario's title, and `Speaker: words` for each message of somebody with a name."""
    scenario = re.sub(r"^\s*#.*\n", "", scenario, flags=re.MULTILINE)
    lines = []
    for message in re.findall(r"\[message\](.*?)\[/message\]", scenario, flags=re.DOTALL):
        speaker = re.search(r'^\s*speaker\s*=\s*"?([^"\n]+?)"?\s*$', message, flags=re.MULTILINE)
        words = re.search(r"^\s*message\s*=\s*" + STRING, message, flags=re.MULTILINE)
        if not speaker or not words or "$" in words[1]:
            continue
        name = speaker[1].capitalize() if speaker[1] == "narrator" else speaker[1]
        if name[0].islower():  # `unit` and the like: whoever stands there
            continue
        spoken = html.unescape(re.sub(r"<[^>]*>", "", words[1].replace('""', '"')))
        lines.append(f"{name}: {' '.join(spoken.split())}")
    title = re.search(r"^\s*name\s*=\s*" + STRING, scenario, flags=re.MULTILINE)
    return "\n\n".join([title[1].upper(), *lines]) if lines and title else ""


class Text:
    def __init__(self, make, digest, package):
        self.make, self.digest, self.package = make, digest, package


TEXTS = {
    "prose": Text(
        prose, "ce0de6f935fdcd2baf9cd606c904145ac016c1d9792d246310e3c91eb3ba94b7",
        Package("r-cran-janeaustenr", "1.0.0-1", "r-cran-janeaustenr",
                "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95")),
    "code": Text(
        code, "ec0a9ae0a9acdcf9087eef67f753d2b114e4664f96ca2e2dd16f054929fd576b",
        Package("pybind11-dev", "2.10.3-1", "pybind11",
                "aeb5a95303a4521b704f927334b2aa3c1680fcfd7ddd568146d8db09bdc101ab")),
    "licence": Text(
        licence, "7143f30b8ce16357b39e68a933fd5e809505f725778ff8bc3853c17fcf7f6d34",
        Package("libsoftware-license-perl", "0.104002-1", "libsoftware-license-perl",
                "98139a99175c23f1e0c266657aa6e6db090b19cae7fc8d0964ce61be5bae3f1d")),
    "dialogue": Text(
        dialogue, "117ef2a69aac37c8e943acea59b7d9cad2b841f01adadf8b1e35771dda710e72",
        Package("wesnoth-1.16-dm", "1:1.16.9-1", "wesnoth-1.16",
                "1997ad4d91e8de36415db2a3445904288f588a76d75111222d2aace409ace5c6")),
}


def make(name, folder, cache, strict):
    text = TEXTS[name]
    try:
        made = text.make(text.package.files(cache))
    except (KeyError, ValueError, lzma.LZMAError, zlib.error, tarfile.TarError) as error:
        die(f"{name}: {text.package.file} is not as expected: {error!r}")
    data = made.encode("utf-8")
    if sha256(data) != text.digest:
        what = (f"{name}: its SHA-256 is {sha256(data)}, recorded is {text.digest}: results are "
                "not comparable with those of the recorded text")
        if strict:
            die(what)
        say(f"warning: {what}")
    path = os.path.join(folder, f"{name}.txt")
    with open(path, "wb") as out:
        out.write(data)
    print(f"{path}: {len(made):,} characters, sha256 {sha256(data)}")


def self_test():
    """Everything that needs no network."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        member = tarfile.TarInfo("./usr/a.txt")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))

    def part(name, data):
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode("ascii")
        return header + data + b"\n" * (len(data) % 2)

    packed = lzma.compress(tar.getvalue())
    deb = b"!<arch>\n" + part("debian-binary", b"2.0\n") + part("control.tar.xz", b"odd")
    assert files_of_deb(deb + part("data.tar.xz", packed)) == {"usr/a.txt": b"abc"}
    for broken in (b"", b"PK\3\4", deb):
        try:
            files_of_deb(broken)
        except ValueError:
            continue
        raise AssertionError("a broken package was read")

    def string(text):
        return b"\0\4\0\t" + len(text).to_bytes(4, "big") + text

    vector = (b"X\n\0\0\0\3\0\4\2\1\0\3\5\0\0\0\0\5UTF-8" + b"\0\0\0\x10\0\0\0\3"
              + string("é".encode()) + b"\0\0\0\t\xff\xff\xff\xff" + string(b"end"))
    assert r_strings(vector) == ["é", "", "end"]
    stream = zlib.compress(vector)
    database = len(stream).to_bytes(4, "big") + stream
    assert list(r_objects(database * 2)) == [vector] * 2

    assert within("one\ntwo\nthree", 9) == "one\ntwo\n"
    assert within("one\ntwo") == "one\ntwo\n"
    assert unwrapped(["a", "b ", "", "", "c"]) == "a b\n\nc"

    scenario = '''
    name= _ "A Scene"
    [message]
        speaker=narrator
        message= _ "It <i>is</i> late,
and dark."
    [/message]
    # [message]
    #     speaker=Nobody
    #     message=_"Left out."
    # [/message]
    [message]
        speaker="Ann"
        message=_"He said ""no""."
    [/message]
    [message]
        speaker=unit
        message=_"Left out."
    [/message]
    [message]
        speaker=Bob
        message=_"Left out, $name."
    [/message]
    '''
    assert dialogue_of(scenario) == (
        'A SCENE\n\nNarrator: It is late, and dark.\n\nAnn: He said "no".')

    package = Package("wesnoth-1.16-dm", "1:1.16.9-1", "wesnoth-1.16", "")
    assert package.urls()[0] == ("http://deb.debian.org/debian/pool/main/w/wesnoth-1.16/"
                                 "wesnoth-1.16-dm_1.16.9-1_all.deb")
    assert "/libs/libsoftware-license-perl/" in TEXTS["licence"].package.urls()[0]
    print("texts.py: self-test passed")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=__doc__.partition("\n\n")[2])
    parser.add_argument("folder", nargs="?", help="where the texts go")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of the texts, all by default")
    parser.add_argument("--cache", help="where packages are kept, FOLDER/packages by default")
    parser.add_argument("--strict", action="store_true", help="a text that differs is an error")
    parser.add_argument("--self-test", action="store_true")
    asked = parser.parse_args()
    if asked.self_test:
        self_test()
        return
    if not asked.folder:
        parser.error("want a folder")
    unknown = [name for name in asked.names if name not in TEXTS]
    if unknown:
        parser.error(f"unknown text {unknown[0]}: want {', '.join(TEXTS)}")
    cache = asked.cache or os.path.join(asked.folder, "packages")
    os.makedirs(asked.folder, exist_ok=True)
    os.makedirs(cache, exist_ok=True)
    for name in asked.names or TEXTS:
        make(name, asked.folder, cache, asked.strict)


if __name__ == "__main__":
    main()
