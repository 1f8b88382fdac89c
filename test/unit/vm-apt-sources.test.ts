import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  formatSource,
  mirrorsFor,
  parseDeb822Sources,
  parseOneLineSources,
} from '../../lib/vm/apt-sources.js';

const DEB822 = `# See sources.list(5)
Types: deb deb-src
URIs: http://mirror.example/debian
# a comment in between
Suites: trixie trixie-updates
Components: main non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: trixie-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abcd
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: trixie
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: trixie
Components: main
`;

const ONE_LINE = `
# deb http://commented.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib # the main archive
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64,arm64 signed-by=/etc/apt/keyrings/a.gpg,/etc/apt/keyrings/b.gpg] https://packages.example bookworm main
deb [trusted=yes] http://mirror.example/debian-security bookworm-security main
`;

describe('parseDeb822Sources', () => {
  it('reads the stanzas that give binary packages and are not switched off', () => {
    const sources = parseDeb822Sources(DEB822);
    assert.deepEqual(
      sources.map(({ uri, suites, components }) => ({ uri, suites, components })),
      [
        {
          uri: 'http://mirror.example/debian',
          suites: ['trixie', 'trixie-updates'],
          components: ['main', 'non-free-firmware'],
        },
        { uri: 'http://mirror.example/debian-security', suites: ['trixie-security'], components: ['main'] },
      ],
    );
  });

  it('keeps a key that stands in the file itself', () => {
    const [, security] = parseDeb822Sources(DEB822);
    assert.match(security?.fields['signed-by'] ?? '', /^-----BEGIN[\s\S]*\n \.\n abcd\n -----END/);
  });

  it('makes a source of every URI', () => {
    const text = 'Types: deb\nURIs: http://a.example http://b.example\nSuites: sid\nComponents: main\n';
    assert.deepEqual(
      parseDeb822Sources(text).map(({ uri }) => uri),
      ['http://a.example', 'http://b.example'],
    );
  });
});

describe('parseOneLineSources', () => {
  it('reads binary sources with their options', () => {
    const [main, other] = parseOneLineSources(ONE_LINE);
    assert.deepEqual(main, {
      uri: 'http://mirror.example/debian',
      suites: ['bookworm'],
      components: ['main', 'contrib'],
      fields: {},
    });
    assert.equal(other?.fields['signed-by'], '/etc/apt/keyrings/a.gpg /etc/apt/keyrings/b.gpg');
  });

  it('skips comments and source packages', () => {
    assert.equal(parseOneLineSources(ONE_LINE).length, 3);
  });
});

describe('mirrorsFor', () => {
  it("prefers what looks like Debian's own archive to others that use its suite names", () => {
    const sources = parseOneLineSources(`deb https://packages.example bookworm main\n${ONE_LINE}`);
    const mirrors = mirrorsFor('trixie-backports', sources);
    assert.equal(mirrors[0]?.uri, 'http://mirror.example/debian');
    assert.deepEqual(mirrors[0]?.suites, ['trixie-backports']);
  });

  it('reads a security suite from the security archive, whichever release the machine has', () => {
    const mirrors = mirrorsFor('bookworm-security', parseDeb822Sources(DEB822));
    assert.deepEqual(
      mirrors.map(({ uri }) => uri),
      ['http://mirror.example/debian-security'],
    );
  });

  it('looks for the security archive beside the main one when the machine does not read it', () => {
    const sources = parseOneLineSources('deb http://mirror.example/debian/ trixie main');
    assert.equal(mirrorsFor('bookworm-security', sources)[0]?.uri, 'http://mirror.example/debian-security');
    assert.deepEqual(
      mirrorsFor('bookworm-security', parseOneLineSources('deb http://x.example trixie main')),
      [],
    );
  });

  it('knows mirror lists by their suites alone', () => {
    const sources = parseOneLineSources('deb mirror+file:/etc/apt/mirrors/main.list bookworm main');
    assert.equal(mirrorsFor('trixie-backports', sources)[0]?.uri, 'mirror+file:/etc/apt/mirrors/main.list');
  });

  it('finds none among archives of other distributions', () => {
    const sources = parseOneLineSources(
      'deb http://archive.example/ubuntu noble main\ndeb https://deb.example nodistro main',
    );
    assert.deepEqual(mirrorsFor('trixie-backports', sources), []);
  });
});

describe('formatSource', () => {
  it('survives being read again, keys included', () => {
    const [source] = mirrorsFor('bookworm-security', parseDeb822Sources(DEB822));
    assert.ok(source);
    const [again] = parseDeb822Sources(formatSource(source));
    assert.equal(again?.fields['signed-by'], source.fields['signed-by']);
    assert.deepEqual(again?.suites, ['bookworm-security']);
  });

  it('leaves out options that select what to read', () => {
    const [source] = parseOneLineSources(
      'deb [arch=arm64 trusted=yes] http://mirror.example/debian bookworm main',
    );
    assert.ok(source);
    assert.doesNotMatch(formatSource(source), /arch/i);
    assert.match(formatSource(source), /^trusted: yes$/m);
  });
});
