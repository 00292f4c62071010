//! Models as data: the catalog, weights from hub, folder or seed, and the nets behind each phase.
