'use strict'
// Which of the platform packages fits here.

/** The name of this platform, as in `@ottla/linux-x64-gnu`. */
function platform () {
  switch (process.platform) {
    case 'linux': return `linux-${process.arch}-${isMusl() ? 'musl' : 'gnu'}`
    case 'win32': return `win32-${process.arch}-msvc`
    default: return `${process.platform}-${process.arch}`
  }
}

function isMusl () {
  // A report lists the network interfaces, too, and looks their names up: that can take seconds.
  const before = process.report.excludeNetwork
  process.report.excludeNetwork = true
  const { header } = process.report.getReport()
  process.report.excludeNetwork = before
  return !header.glibcVersionRuntime
}

module.exports = { platform }
