import testing from './testing.cjs'
export const { Cluster } = testing
