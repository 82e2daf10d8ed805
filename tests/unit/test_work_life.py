"""The loops together: whole lives of objects, and what they do when the world fails them."""

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.work_rig import MIB, Run, World


class LifeTests(SynchronousTestCase):
    """Without faults."""

    def test_archive_and_restore(self) -> None:
        """Objects of all sizes get two verified copies on two cartridges, leave the disk, and come back identical."""
        world = World()
        run = Run(world).start()
        versions = [world.put(f"k{size}", size) for size in (1, 5000, MIB, 40 * MIB + 7)]
        run.until(lambda: world.is_cold(*versions))
        world.check()
        self.assertTrue(all(len(world.where(version)) == 2 for version in versions))
        self.assertEqual(world.staging.usage().used_bytes, 0)
        for version in versions:
            world.ask_back(version)
        run.until(lambda: world.is_restored(*versions))
        for version in versions:
            self.assertEqual(world.read(version), world.contents[version.version_uid])
        run.let_pass(200)
        self.assertEqual(world.alerts(), {})
        world.check_disk()
