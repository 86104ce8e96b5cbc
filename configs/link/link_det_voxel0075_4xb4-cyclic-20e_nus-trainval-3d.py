# Trained on both splits, as for the test server: the validation split says nothing about such a model. Info file and
# database of both splits come from mmdet3d's tools, run on the two splits as one.
_base_ = './link_det_voxel0075_4xb2-cyclic-20e_nus-3d.py'

paste_objects = dict(
    _base_.paste_objects,
    db_sampler=dict(_base_.paste_objects.db_sampler, info_path=_base_.data_root + 'nuscenes_dbinfos_trainval.pkl'),
)
train_pipeline = [*_base_.load_key_frame, _base_.load_sweeps, _base_.load_annotations, paste_objects, *_base_.augment]
train_dataloader = dict(
    batch_size=4, dataset=dict(dataset=dict(ann_file='nuscenes_infos_trainval.pkl', pipeline=train_pipeline))
)
auto_scale_lr = dict(base_batch_size=16)
