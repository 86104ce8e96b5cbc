# SemanticKITTI for segmentation. Info files: as for any mmdet3d model, mmdet3d's own create_data.py semantickitti.
_base_ = 'mmdet3d::_base_/datasets/semantickitti.py'

check_file = dict(type='CheckPointFile', load_dim=4)
check_labels = dict(type='CheckLabelFile', known_ids=list(_base_.labels_map), dtype='uint32')
train_pipeline = [
    check_file,
    _base_.train_pipeline[0],
    check_labels,
    *_base_.train_pipeline[1:3],
    dict(type='GlobalRotScaleTrans', rot_range=[0.0, 6.28318531], scale_ratio_range=[0.95, 1.05]),
    # None, x, y or both, each in a quarter of the cases.
    dict(type='RandomFlip3D', sync_2d=False, flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
    dict(type='Pack3DDetInputs', keys=['points', 'pts_semantic_mask']),
]
test_pipeline = [check_file, _base_.test_pipeline[0], check_labels, *_base_.test_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='UnlabelledSegMetric')
test_evaluator = val_evaluator
visualizer = dict(type='LidarPictureVisualizer', ahead='x')
