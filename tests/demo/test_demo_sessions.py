"""Nothing of a visitor is left after the visit."""

from __future__ import annotations

import pytest

from mvbench_plugins.demo.sessions import Sessions, Stopped


def test_files_go_with_their_visitor():
    with Sessions() as sessions:
        own, shared = sessions.root / 'own.png', sessions.root / 'shared.png'
        own.write_bytes(b'1')
        shared.write_bytes(b'2')
        sessions.add_upload('first', own)
        for name in ('first', 'second'):
            sessions.add_upload(name, shared)
        with sessions.run('first') as (folder, _):
            (folder / 'result.png').write_bytes(b'3')
        assert (folder / 'result.png').exists(), 'the page still shows it'
        assert oct(sessions.root.stat().st_mode)[-3:] == '700'
        sessions.leave('first')
        assert not folder.exists() and not own.exists() and shared.exists()
        (sessions.root / 'of nobody').mkdir()
        sessions.leave('second')
        assert not list(sessions.root.iterdir())
    assert not sessions.root.exists()


def test_a_run_ends_when_its_visitor_leaves():
    with Sessions() as sessions:
        with sessions.run('one') as (folder, stop):
            sessions.stop('another')
            assert not stop.is_set()
            sessions.leave('one')
            assert stop.is_set() and folder.exists(), 'the run may still write'
        assert not folder.parent.exists()


def test_the_next_run_replaces_the_result():
    with Sessions() as sessions:
        with sessions.run('one') as (first, _):
            pass
        sessions.stop('one')
        sessions.begin('one')
        with sessions.run('one') as (second, stop):
            assert second.exists() and not first.exists() and not stop.is_set()


def test_a_run_that_waits_for_others_is_stopped():
    with Sessions() as sessions:
        sessions.begin('one')
        sessions.stop('one')
        with pytest.raises(Stopped), sessions.run('one'):
            pass
        assert not list(sessions.folder('one').iterdir())


def test_only_uploads_are_taken(tmp_path):
    secret = tmp_path / 'secret.png'
    secret.write_bytes(b'1')
    with Sessions() as sessions:
        (sessions.root / 'link.png').symlink_to(secret)
        for path in (secret, sessions.root / '..' / 'secret.png', sessions.root / 'link.png', sessions.root / 'gone'):
            with pytest.raises(ValueError, match='upload it again'):
                sessions.add_upload('one', path)
