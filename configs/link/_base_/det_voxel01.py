# Voxels of 0.1 m in a range of 51.2 m.
_base_ = './det_voxel0075.py'

point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
voxel_size = [0.1, 0.1, 0.2]
grid_size = [1024, 1024, 40]
model = dict(
    data_preprocessor=dict(
        voxel_layer=dict(voxel_size=voxel_size, max_voxels=(90000, 120000), point_cloud_range=point_cloud_range)
    ),
    pts_middle_encoder=dict(sparse_shape=[grid_size[2] + 1, grid_size[1], grid_size[0]]),
    pts_bbox_head=dict(bbox_coder=dict(pc_range=point_cloud_range[:2], voxel_size=voxel_size[:2])),
    train_cfg=dict(pts=dict(point_cloud_range=point_cloud_range, grid_size=grid_size, voxel_size=voxel_size)),
)
