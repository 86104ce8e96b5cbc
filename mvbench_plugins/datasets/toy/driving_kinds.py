"""The ten kinds of cuboids on the streets of the toy world: the detection classes of nuScenes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What the cuboids of one class have in common.

    Attributes:
        name: Name of the class.
        category: Name of the nuScenes category that this class stands for.
        size: Length, width, height of a typical one in metres.
        colour: Colour of its sides ``(blue, green, red)``, 0 to 255.
        stripes: Number of dark upright stripes on each side.
        reflectance: Intensity of a LiDAR return that meets it head-on, 0 to 255.
        reach: Metres from the car within which one is met at some time: small ones would not be seen farther away.
        speed: Slowest and fastest of those that move, in metres a second; None if none ever moves.
    """

    name: str
    category: str
    size: tuple[float, float, float]
    colour: tuple[int, int, int]
    stripes: int
    reflectance: float
    reach: float
    speed: tuple[float, float] | None

    def attribute(self, moves: bool) -> str | None:
        """Name of the nuScenes attribute of one that moves or stands, None for a class without attributes.

        A bus that stands is stopped and all other vehicles are parked, as the metric of mmdet3d takes it.
        """
        if self.speed is None:
            return None
        if self.name == 'pedestrian':
            return 'pedestrian.moving' if moves else 'pedestrian.standing'
        if self.name in ('bicycle', 'motorcycle'):
            return 'cycle.with_rider' if moves else 'cycle.without_rider'
        if moves:
            return 'vehicle.moving'
        return 'vehicle.stopped' if self.name == 'bus' else 'vehicle.parked'


#: In the order of mmdet3d's labels.
KINDS = (
    Kind('car', 'vehicle.car', (4.6, 1.95, 1.7), (200, 70, 30), 0, 60, 36, (2.0, 8.0)),
    Kind('truck', 'vehicle.truck', (6.9, 2.5, 2.9), (70, 170, 60), 3, 45, 36, (2.0, 7.0)),
    Kind('trailer', 'vehicle.trailer', (11.5, 2.9, 3.8), (175, 170, 165), 6, 80, 36, (2.0, 6.0)),
    Kind('bus', 'vehicle.bus.rigid', (11.0, 2.9, 3.5), (40, 40, 200), 8, 55, 36, (2.0, 7.0)),
    Kind('construction_vehicle', 'vehicle.construction', (6.4, 2.8, 3.2), (20, 190, 235), 2, 35, 36, (1.0, 3.0)),
    Kind('bicycle', 'vehicle.bicycle', (1.7, 0.6, 1.3), (200, 200, 40), 1, 30, 22, (2.0, 5.0)),
    Kind('motorcycle', 'vehicle.motorcycle', (2.1, 0.8, 1.5), (170, 40, 150), 1, 40, 24, (2.0, 7.0)),
    Kind('pedestrian', 'human.pedestrian.adult', (0.75, 0.7, 1.75), (150, 110, 240), 0, 25, 22, (0.8, 1.8)),
    Kind('traffic_cone', 'movable_object.trafficcone', (0.42, 0.42, 1.05), (10, 110, 250), 0, 120, 18, None),
    Kind('barrier', 'movable_object.barrier', (0.55, 2.5, 1.0), (235, 235, 240), 0, 100, 22, None),
)

#: All nuScenes attributes, of which the toy world uses some.
ATTRIBUTES = (
    'vehicle.moving',
    'vehicle.stopped',
    'vehicle.parked',
    'cycle.with_rider',
    'cycle.without_rider',
    'pedestrian.sitting_lying_down',
    'pedestrian.standing',
    'pedestrian.moving',
)
